"""Weights from packages and from a hub, a small one on loopback."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.models import weight_files, weight_sources
from dropclass_jax.models.normalization import Normalization


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package ``some-weights`` of the given files."""

    def install(*files):
        about = tmp_path / "some_weights-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
        (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(b"of " + file.encode())
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_a_package_s_one_file_of_weights_is_found(package, tmp_path):
    package("some_weights/__init__.py", "some_weights/net.pth")
    for name in ("some-weights", "some_weights"):
        source = weight_sources.find(f"package:{name}")
        assert source.path == tmp_path / "some_weights/net.pth"
        checksum = hashlib.sha256(b"of some_weights/net.pth").hexdigest()
        assert source.description == f"package:{name} (net.pth, SHA-256 {checksum})"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["some_weights/__init__.py"], "holds none: give"),
        (["some_weights/a.npz", "some_weights/b.pth"], "a.npz, some_weights/b.pth: give"),
    ],
)
def test_a_package_of_no_or_several_files_is_refused(package, files, message):
    package(*files)
    with pytest.raises(UserError, match=message):
        weight_sources.find("package:some-weights")


@pytest.mark.parametrize("name", ["", "no-such-package-anywhere"])
def test_a_package_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=f"weights package:{name}: no such package is installed"):
        weight_sources.find(f"package:{name}")


def test_a_path_is_what_it_says(tmp_path):
    assert weight_sources.find(f"{tmp_path}/run").path == tmp_path / "run"
    assert weight_sources.find("a:b/file.npz").path.name == "file.npz"  # no source of that name


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """What the hub below holds: ``{path: content}``."""
    path = tmp_path_factory.mktemp("hub") / "file.safetensors"
    weight_files.write(path, {"x": np.arange(3.0, dtype=np.float32)})
    settings = {"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}}
    return {
        "some/net/resolve/main/model.safetensors": path.read_bytes(),
        "some/net/resolve/main/config.json": json.dumps(settings).encode(),
        "some/net/resolve/main/sub/other.npz": b"another",
        "some/bare/resolve/main/README.md": b"nothing",
    }


@pytest.fixture(scope="module")
def hub(repositories):
    """The address of a server that answers as the Hugging Face hub does for a file."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.lstrip("/").split("?")[0]
            content = repositories.get(path)
            if content is None:
                known = path.split("/resolve/")[0] in {
                    p.split("/resolve/")[0] for p in repositories
                }
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# The hub's address is read as huggingface_hub is imported: hence a process of its own.
SCRIPT = """
import sys
from dropclass_jax.errors import UserError
from dropclass_jax.models import weight_sources
for spec in sys.argv[1:]:
    try:
        source = weight_sources.find(spec)
        print(source.description, source.normalization, source.path, sep="\\t")
    except UserError as error:
        print("refused:", error)
"""


def found(address, cache, *specs):
    """What ``find`` says of each spec, a line each."""
    pytest.importorskip("huggingface_hub")
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache)}
    environment |= {"JAX_PLATFORMS": "cpu", "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-c", SCRIPT, *specs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "thrown while" not in done.stderr  # its warnings: an error is one line
    return done.stdout.splitlines()


def test_weights_of_the_hub(hub, repositories, tmp_path):
    specs = (
        "hf:some/net",
        "hf:some/net/sub/other.npz",
        "hf:some/net/lacking.npz",
        "hf:some/bare",
        "hf:some/wrong",
        "hf:wrong",
        "hf:so?me/net",
    )
    lines = found(hub, tmp_path, *specs)
    assert len(lines) == len(specs)
    content = repositories["some/net/resolve/main/model.safetensors"]
    about, normalization, path = lines[0].split("\t")
    checksum = hashlib.sha256(content).hexdigest()
    assert about == f"hf:some/net (model.safetensors, SHA-256 {checksum})"
    assert normalization == str(Normalization((0.5,) * 3, (0.25,) * 3))
    np.testing.assert_array_equal(weight_files.read(path)["x"], np.arange(3.0))
    assert lines[1].startswith("hf:some/net/sub/other.npz (other.npz, SHA-256 ")
    refused = "refused: weights hf:"
    assert lines[2].startswith(f"{refused}some/net/lacking.npz: some/net holds no lacking.npz; ")
    assert lines[3].startswith(f"{refused}some/bare: some/bare holds no model.safetensors or ")
    assert lines[4].startswith(f"{refused}some/wrong: the hub has no such repository")
    assert lines[5].startswith(f"{refused}wrong: give hf:OWNER/NAME")
    assert lines[6].startswith(f"{refused}so?me/net: the hub has no such repository")


def test_without_the_hub_what_was_fetched_is_enough(hub, tmp_path):
    (first,) = found(hub, tmp_path, "hf:some/net")
    # What was fetched is taken without a question, what was not costs several attempts.
    nowhere = "http://127.0.0.1:9"  # the port of a service that discards what it is told
    again, lacking = found(nowhere, tmp_path, "hf:some/net", "hf:some/net/sub/other.npz")
    assert again == first
    assert lacking.startswith("refused: weights hf:some/net: the hub cannot be reached, and sub/")
