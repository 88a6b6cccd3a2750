"""Encrypted homes: what is sealed reads as it was, damage and other keys are noticed, and conversion loses nothing."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from storage import (
    BlobStore,
    BlockDamaged,
    Document,
    Header,
    Home,
    HomeLocked,
    Keeper,
    Page,
    convert,
    open_library,
    opened,
    read_block,
    read_bytes,
    vault,
    write_block,
)
from storage.vault import Broken, sealed_file

WORDS = "The ferryman keeps his ledger under the third plank"
SECRET = (WORDS.encode(), b"ledger", b"ferryman.txt")
STRIDE = int(os.environ.get("DOCPOD_STRIDE", 7))
"""Of the steps at which a conversion is killed; 1 is each of them."""
SIZES = (0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 300_000)


def passphrase(_: Header) -> str:
    return "right"


def encrypt(root: Path) -> int:
    if (header := Header.read(root)) is None:
        Header.new().under("right", "passphrase").write(root)
    assert header is None or header.state == "encrypting"
    with closing(Home(root, passphrase, unfinished=True)) as home:
        return len(list(convert(home, "encrypted")))


def decrypt(root: Path) -> int:
    with closing(Home(root, passphrase, unfinished=True)) as home:
        return len(list(convert(home, "plain")))


def everything(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def contents(root: Path) -> dict[str, object]:
    """All that a home holds, as its library gives it."""
    with closing(Home(root, passphrase)) as home:
        found = open_library(home)
        assert not found.said and not found.unknown
        with closing(found.store) as store:
            (document,) = store.documents()
            return {
                "document": document,
                "pages": [page.text for page in store.pages(document.id)],
                "found": store.search_pages(document.id, ["ledger"], 5),
                "rows": store.damaged_rows(),
                "original": BlobStore(root).digest(document.id),
                "block": bytes(read_block(home.imports / "x" / "a.pod")[1]),
                "aside": b"".join(read_bytes(path) for path in (root / "quarantine").rglob("*.*")),
                "came": read_bytes(home.imports / "x" / "docpod.json"),
                "backups": sum(path.suffix == ".sqlite3" for path in home.backups.iterdir()),
            }


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are made of passphrases in no time, but where that is what is tested."""
    if "another_passphrase" not in request.node.name:
        monkeypatch.setattr(vault, "_made_of", lambda given, salt: blake3(f"{given} {salt}".encode()).digest())


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A plain home with something in every place."""
    root = tmp_path / "home"
    source = tmp_path / "ferryman.txt"
    source.write_text(WORDS * 5_000)
    with closing(Home(root)) as home:
        opening = open_library(home)
        store = opening.store
        keeper = Keeper(home, store, True)
        sha256, size = BlobStore(root).put_file(source)
        store.add_document(
            Document(id=sha256, title=WORDS, file_name=source.name, media_type="text/plain", num_bytes=size)
        )
        page = {"label": "1", "state": "ok", "width_pt": 1.0, "height_pt": 1.0, "words": b""}
        store.save_pages(sha256, WORDS, [], [Page(number=1, text=WORDS, **page)], "", "", "", ())
        store.register().write(root)
        for path in (home.imports / "x" / "docpod.json", root / "quarantine" / "2026-01-01" / "docpod.sqlite3"):
            path.parent.mkdir(parents=True)
            path.write_text(WORDS)
        keeper.close()
        store.close()
        keeper.seal()
        write_block(home.imports / "x", "a.pod", {"of": WORDS}, WORDS.encode() * 3_000)
    return root


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_reads_as_it_was(plain: Path, size: int) -> None:
    encrypt(plain)
    data = os.urandom(size)
    with closing(Home(plain, passphrase)):
        with sealed_file(plain / "pods" / "a", size) as file:
            for at in range(0, size, 70_001):
                file.write(data[at : at + 70_001])
        with opened(plain / "pods" / "a") as read:
            assert read.read() == data
            for at in (0, size // 2, size):
                read.seek(at)
                assert read.read(9) == data[at : at + 9]


@pytest.mark.parametrize("size", [0, 10, 1 << 16, 200_000])
def test_every_change_of_a_sealed_file_is_noticed(plain: Path, size: int) -> None:
    encrypt(plain)
    path = plain / "pods" / "a"
    with closing(Home(plain, passphrase)):
        with sealed_file(path, size) as file:
            file.write(bytes(size))
        sealed = path.read_bytes()
        piece = (1 << 16) + 16
        spoilt = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in (0, 9, 24, len(sealed) - 1)]
        spoilt += [sealed[:cut] for cut in (0, 8, 24, 30, len(sealed) - 1, 24 + piece) if cut < len(sealed)]
        if size > 1 << 17:
            spoilt.append(
                sealed[:24] + sealed[24 + piece : 24 + 2 * piece] + sealed[24 : 24 + piece] + sealed[24 + 2 * piece :]
            )
        for each in spoilt:
            path.write_bytes(each)
            with pytest.raises(Broken), opened(path) as read:
                read.read()


def test_a_damaged_block_is_said_to_be_that(plain: Path) -> None:
    encrypt(plain)
    path = plain / "imports" / "x" / "a.pod"
    path.write_bytes(path.read_bytes()[:-1])
    with closing(Home(plain, passphrase)), pytest.raises(BlockDamaged):
        read_block(path)


def test_an_encrypted_home_holds_the_same_and_none_of_it_in_plain(plain: Path) -> None:
    before = contents(plain)
    assert all(word in everything(plain) for word in SECRET)
    assert encrypt(plain) == 7
    assert not [word for word in SECRET if word in everything(plain)]
    assert contents(plain) == before
    assert not [word for word in SECRET if word in everything(plain)]
    assert decrypt(plain) == 7
    assert contents(plain) == before
    assert not list(plain.rglob("vault.json"))


def test_another_passphrase_opens_nothing_and_changes_nothing(plain: Path) -> None:
    encrypt(plain)
    before = everything(plain)
    for given, why in ((lambda _: "wrong", "wrong"), (None, "asked")):
        with pytest.raises(HomeLocked) as refused:
            Home(plain, *([given] if given else []))
        assert refused.value.why == why
    assert everything(plain) == before


def test_the_passphrase_can_be_changed(plain: Path) -> None:
    encrypt(plain)
    header = Header.read(plain)
    assert header
    header.under("other", "passphrase", header.key("right")).write(plain)
    with pytest.raises(HomeLocked):
        Home(plain, passphrase)
    with closing(Home(plain, lambda _: "other")) as home:
        assert bytes(read_block(home.imports / "x" / "a.pod")[1]).startswith(WORDS.encode())


def test_the_header_is_kept_twice_and_heals(plain: Path) -> None:
    encrypt(plain)
    copies = (plain / "vault.json", plain / "backups" / "vault.json")
    good = copies[0].read_bytes()
    for path in copies:
        for spoilt in (b"", good[:-9], good.replace(b"passphrase", b"keyring")):
            path.write_bytes(spoilt)
            contents(plain)
            assert [each.read_bytes() for each in copies] == [good, good]
    for path in copies:
        path.unlink()
    with pytest.raises(HomeLocked) as refused:
        Home(plain)
    assert refused.value.why == "lost"


def test_what_a_killed_process_left_in_memory_goes_once_nobody_else_is_there(plain: Path) -> None:
    encrypt(plain)
    with closing(Home(plain, passphrase)) as first:
        left = first.uploads.with_name(first.uploads.name + "left")
        left.mkdir()
        (left / "plain").write_text(WORDS)
        with closing(Home(plain, passphrase)) as second:
            assert left.exists() and second.uploads != first.uploads
    with closing(Home(plain, passphrase)) as third:
        assert not left.exists() and third.uploads.exists()


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do it in a process that ends at its n-th change of the disk; whether it came that far."""
    process = os.fork()
    if not process:
        steps = 0

        def audit(event: str, _: object) -> None:
            nonlocal steps
            if event in (
                "os.rename",
                "os.remove",
                "shutil.rmtree",
                "tempfile.mkstemp",
                "os.truncate",
                "sqlite3.connect",
            ):
                steps += 1
                if steps == step:
                    os._exit(9)

        fsync = os.fsync

        def synced(handle: int) -> None:
            audit("os.rename", None)
            fsync(handle)

        os.fsync = synced
        sys.addaudithook(audit)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("way", [encrypt, decrypt])
def test_a_conversion_that_is_killed_goes_on_and_loses_nothing(
    plain: Path, tmp_path: Path, way: Callable[[Path], int]
) -> None:
    before = contents(plain)
    Header.new().under("right", "passphrase").write(plain)
    if way is decrypt:
        encrypt(plain)
    root, step = tmp_path / "tried", 0
    while True:
        step += STRIDE
        shutil.copytree(plain, root)
        if not killed_at(step, lambda: way(root)):
            break
        if Header.read(root) and Header.read(root).state == ("encrypting" if way is encrypt else "decrypting"):
            with pytest.raises(HomeLocked):
                Home(root, passphrase)
            way(root)
        elif way is decrypt and Header.read(root):
            way(root)
        assert contents(root) == before, step
        assert not list(root.rglob(".*.partial"))
        assert way is decrypt or not [word for word in SECRET if word in everything(root)], step
        shutil.rmtree(root)
    assert step > 60
