"""Where a model's files are: in a folder, or in a snapshot of a Hugging Face repository, downloaded if need be."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import CONFIG_NAME

from anchorlab.errors import InputError
from anchorlab.models.quiet import quietly

_SMALL_FILES = ("*.json", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.py")


@dataclass(frozen=True)
class Located:
    """A folder with a model's files; `revision` and `commit` are None where they are not known."""

    name: str
    folder: Path
    kind: str
    revision: str | None
    commit: str | None

    @property
    def remedy(self) -> str:
        """What to do when a file is missing or broken."""
        if self.kind == "folder":
            return "copy or save it again"
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"run `hf download {self.name}{revision}` where there is a network"

    def lacks(self, files: Sequence[str]) -> bool:
        """Whether one of `files` is not there."""
        return not all((self.folder / file).is_file() for file in files)

    def fetch(self, files: Sequence[str]) -> None:
        """Download what a snapshot lacks of `files`, with bars, because weights may take hours."""
        if self.kind == "hub" and self.lacks(files):
            _snapshot(self.name, self.commit, files)


def locate(name: str, revision: str | None = None) -> Located:
    """Find `name`: a folder, or a repository of which the small files are fetched (the weights are not).

    A repository is looked for on the Hugging Face Hub, and in the local cache where the Hub cannot be reached.

    Raises:
        InputError: no such folder or repository or revision, no access to it, or neither a local copy nor a network.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        if revision is not None:
            raise InputError(f"revision={revision}: {name} is a folder; only models of the Hub have revisions")
        return Located(name, path, "folder", None, _commit_of(path))
    if path.is_file():
        raise InputError(f"model={name}: is a file; give the folder that holds config.json and the weights")
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"model={name}: there is no such folder")
    with quietly():
        folder = _snapshot(name, revision, _SMALL_FILES)
    return Located(name, folder, "hub", revision, _commit_of(folder))


def _commit_of(folder: Path) -> str | None:
    """The Hub's cache names the folder of a snapshot after its commit."""
    folder = folder.resolve()
    return folder.name if folder.parent.name == "snapshots" else None


def _snapshot(name: str, revision: str | None, files: Sequence[str]) -> Path:
    wanted = f"{name} --revision {revision}" if revision else name
    try:
        # With config.json the patterns always match something; otherwise the Hub's client warns.
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=[CONFIG_NAME, *files], ignore_patterns="*/*")
        )
    except LocalEntryNotFoundError:
        cached = try_to_load_from_cache(name, CONFIG_NAME, revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent
        raise InputError(
            f"model={wanted}: no such folder, no local copy, and the Hugging Face Hub cannot be reached; "
            f"run `hf download {wanted}` where there is a network"
        ) from None
    except GatedRepoError:
        raise InputError(
            f"model={name}: access is restricted; accept its terms at https://huggingface.co/{name} and log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"model={name}: neither a folder nor a model of the Hugging Face Hub; for a private one log in with "
            "`hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"revision={revision}: {name} has no such branch, tag or commit") from None
    except HFValidationError:
        raise InputError(
            f"model={name}: neither a folder nor a name as on the Hugging Face Hub (organization/model)"
        ) from None
    except Exception as error:  # the HTTP library's own errors are of different types in different versions
        raise InputError(f"model={name}: the download failed ({first_line(error)}); try again later") from None


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the lines of advice for programmers that follow."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"{kind}{said if len(said) <= 200 else said[:200] + '…'}"
