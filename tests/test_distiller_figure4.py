"""The first paper's Figure 4 from the authors' own checkpoints."""

import numpy as np
import pytest

from examples import distiller_figure4 as figure4


def test_published_rule_on_three_eigenvalues_by_hand():

    e = np.e
    # 1 + 3 / (0 + 1 + 2) = 2 from the lowest; 1 + 2 / 1 = 3 from the second.
    law_from_first = (1 - np.array([1, 1 / e, 1 / e**2])) / (1 - 1 / e**2)
    first = np.abs(law_from_first - np.array([0, 1, 2]) / 3).max()
    second = np.abs(np.array([0.0, 1.0]) - np.array([0, 1]) / 2).max()
    assert first < second
    assert figure4.published_alpha(np.array([e, 1.0, e**2])) == pytest.approx(2)


def test_published_means_are_reproduced_to_the_last_digit(checkpoints):
    pytest.importorskip("torch", reason="needs torch")
    folder = checkpoints / "distiller_resnet20"
    maps = {
        name: figure4.read_maps(folder / figure4.FILE.format(name)) for name in figure4.PUBLISHED
    }
    for name, (mean_alpha, mean_alpha_hat) in figure4.PUBLISHED.items():
        found = maps[name]
        assert len(found.layers) == 45
        assert found.published_alpha.mean() == pytest.approx(mean_alpha, abs=5.1e-4)
        alpha_hat = found.published_alpha * np.log10(found.lambda_max)
        assert alpha_hat.mean() == pytest.approx(mean_alpha_hat, abs=5.1e-4)
    before, after = maps[figure4.BASELINE], maps[figure4.FINETUNED]
    # Read off the published figure.
    assert np.sort(before.published_alpha)[-2:] == pytest.approx([7.6, 10.4], abs=0.05)
    assert (before.published_alpha * np.log10(before.lambda_max)).min() == pytest.approx(
        -4.78, abs=0.005
    )
    assert np.median(before.lambda_max[18:27]) == pytest.approx(0.25, abs=0.01)
    assert np.median(before.lambda_max[36:]) == pytest.approx(0.09, abs=0.005)
    assert ((after.lambda_max[18:27] > 1.05) & (after.lambda_max[18:27] < 1.55)).all()
    holds = [holds for _, holds, _ in figure4.claims(maps)]
    assert holds == [True, True, False, False, False, True, False, False]


def test_the_command_line_writes_the_figure_and_the_claims(checkpoints, tmp_path, capsys):
    pytest.importorskip("torch", reason="needs torch")
    arguments = ["--checkpoints", str(checkpoints / "distiller_resnet20"), "--out", str(tmp_path)]
    assert figure4.main(arguments) == 0
    assert "3.196" in capsys.readouterr().out
    assert "what the paper says" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "figure4.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_the_files_is_bad_input(tmp_path, capsys):
    assert figure4.main(["--checkpoints", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
