"""Downloads, from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from examples import batch_size, downloads
from examples.training import data

CONTENT = bytes(range(256)) * 40
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A server of one file; what it does with a request is decided by the path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            found = not self.path.startswith("/missing/")
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            cut = len(CONTENT) // 2 if self.path.startswith("/cut/") else None
            self.wfile.write(CONTENT[:cut])

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def source(server, monkeypatch):
    """Makes MNIST come from a folder of the server, with a checksum."""

    def set_source(folder, checksum=CHECKSUM):
        address = f"http://127.0.0.1:{server.server_port}/{folder}/"
        files = dict.fromkeys(("a.gz", "b.gz"), f"sha256:{checksum}")
        monkeypatch.setitem(downloads.SOURCES, "mnist", downloads.Source(address, "mnist", files))
        return address

    return set_source


def test_files_are_fetched_once_and_a_damaged_one_again(server, source, tmp_path):
    source("good")
    assert downloads.fetch("mnist", tmp_path, progress=False) == tmp_path
    assert (tmp_path / "mnist" / "a.gz").read_bytes() == CONTENT
    downloads.fetch("mnist", tmp_path, progress=False)
    assert server.requests == ["/good/a.gz", "/good/b.gz"]
    (tmp_path / "mnist" / "b.gz").write_bytes(CONTENT[:100])
    downloads.fetch("mnist", tmp_path, progress=False)
    assert server.requests[2:] == ["/good/b.gz"]
    assert (tmp_path / "mnist" / "b.gz").read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(source, tmp_path):
    address = source("good", checksum="0" * 64)
    with pytest.raises(data.DataError, match=f"{address}a.gz is another file, or was cut short"):
        downloads.fetch("mnist", tmp_path, progress=False)
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize("folder", ["cut", "missing"])
def test_a_broken_transfer_keeps_nothing(folder, source, tmp_path):
    address = source(folder)
    with pytest.raises(data.DataError, match=f"{address}a.gz is out of reach"):
        downloads.fetch("mnist", tmp_path, progress=False)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_no_network_is_one_line_and_exit_code_1(server, source, tmp_path, capsys):
    source("good")
    server.shutdown()
    server.server_close()
    arguments = ["--preset", "smoke", "--data", "mnist", "--download", "--data-dir", str(tmp_path)]
    assert batch_size.main([*arguments, "--out", str(tmp_path / "out")]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: http://127.0.0.1")
    assert "check the network, or put the file into" in last


def test_unpacked_images_need_no_download(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert downloads.fetch("cifar10", tmp_path) == tmp_path


def test_the_command_gives_the_folder_or_an_error(source, tmp_path, capsys):
    source("good")
    assert downloads.main(["mnist", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)
    source("missing")
    assert downloads.main(["mnist", "--data-dir", str(tmp_path / "other")]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: ")
    with pytest.raises(data.DataError, match="name is 'digits'; expected one of cifar10"):
        downloads.fetch("digits")


def test_sources_have_the_files_that_are_read():
    assert list(downloads.SOURCES["cifar10"].checksums) == [data.CIFAR10_ARCHIVE]
    # Fashion-MNIST comes as Debian's package.
    assert {*downloads.SOURCES, "fashion-mnist"} == set(data.NEEDS_FOLDER)
