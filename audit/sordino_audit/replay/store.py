"""A replay's directory: one file a federation, and the plan that they belong to."""

import json
from pathlib import Path

from sordino_audit.replay.observation import Observation, read_observation
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.shadow import Place
from sordino_protocols.errors import InputError
from sordino_protocols.signing import canonical_json
from sordino_server.storage import write_whole

_PLAN = "replay.json"


class ReplayStore:
    """What a replay has done so far; opened again, it goes on."""

    def __init__(self, directory: Path, plan: ReplayPlan) -> None:
        """Open a directory, made if missing, for one plan alone.

        Raises:
            InputError: it holds another replay, or members' records would leave their site.
        """
        below = plan.stays_below
        if below is not None and not directory.resolve().is_relative_to(below.resolve()):
            raise InputError(f"a replay of members' records stays at their site: below {below}")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, digest = directory / _PLAN, plan.digest()
        if not path.exists():
            if any(directory.iterdir()):
                raise InputError(f"{directory} is neither empty nor a replay's: name another one")
            write_whole(path, canonical_json({"plan_sha256": digest}))
        elif json.loads(path.read_bytes()) != {"plan_sha256": digest}:
            raise InputError(f"{directory} holds the replay of another plan: name another one")
        self._directory = directory
        self._plan = plan

    @property
    def places(self) -> tuple[Place, ...]:
        """Every federation of the plan."""
        count = self._plan.design.federations
        return tuple(Place(world, at) for world in self._plan.worlds for at in range(count))

    @property
    def missing(self) -> tuple[Place, ...]:
        """The federations that are yet to be run."""
        return tuple(place for place in self.places if not self._path(place).exists())

    def keep(self, place: Place, content: bytes) -> None:
        """Put a federation's file in place; on disk when this returns."""
        path = self._path(place)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, content)

    def world(self, world: int) -> list[Observation]:
        """All federations of a world, in order.

        Raises:
            IntegrityError: a file is none of ours.
        """
        paths = [self._path(place) for place in self.places if place.world == world]
        return [read_observation(path.read_bytes(), name=str(path)) for path in paths]

    def _path(self, place: Place) -> Path:
        return self._directory / f"poisons-{place.world:02d}" / f"{place.index:06d}.safetensors"
