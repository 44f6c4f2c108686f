from ._power_law import PowerLawFit as PowerLawFit
from ._power_law import fit_power_law as fit_power_law
