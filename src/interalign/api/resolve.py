"""Settings as the caller, the YAML file and the defaults have them; coroutines from plain functions."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interalign.config import (
    EngineSettings,
    RunSettings,
    Runtime,
    build,
    merged_servers,
    read_settings,
    with_addresses,
)
from interalign.files import refuse_shared
from interalign.ledger.budget import price_table, read_prices

if TYPE_CHECKING:
    pass

T = TypeVar("T")
R = TypeVar("R", bound=RunSettings)


def chosen_settings(
    kind: type[R], config: Path | str | None, settings: Mapping[str, Any], runtime: Runtime | None
) -> tuple[R, Runtime]:
    """The settings and the runtime of a run: what the caller says, else what the YAML file says, else the defaults."""
    file = Path(config) if config else None
    in_file = read_settings(file) if file else {}
    given = {name: value for name, value in {**in_file, **settings}.items() if name not in Runtime.model_fields}
    chosen = build(kind, given, file, in_file.keys() - settings.keys())
    carried = runtime_of(settings, in_file, file, runtime)
    if carried.budget is not None:
        refuse_shared([Path(carried.budget)], inputs=[file, chosen.prompts, chosen.rubric])
    return with_addresses(chosen, carried)


def runtime_of(
    settings: Mapping[str, Any], in_file: Mapping[str, Any], config: Path | None, runtime: Runtime | None
) -> Runtime:
    """How a run is carried out, by what is set in `runtime`, else by the caller's settings, else by those of the file.

    Of each server the file and the caller may say something.
    """
    said = {} if runtime is None else {name: getattr(runtime, name) for name in runtime.model_fields_set}
    fields = {name: value for name, value in {**in_file, **settings, **said}.items() if name in Runtime.model_fields}
    from_file = in_file.keys() - settings.keys() - said.keys()
    if "prices" in fields:
        fields["prices"] = _prices(fields["prices"], f"{config}: prices" if "prices" in from_file else "prices")
    for table in (each["servers"] for each in (settings, in_file) if "servers" in each):
        if table is not fields["servers"]:
            known = build(Runtime, {"servers": table}, config, from_file).servers
            fields["servers"] = merged_servers(known, build(Runtime, {"servers": fields["servers"]}).servers)
    return build(Runtime, fields, config, from_file)


def engine_of(settings: Mapping[str, Any]) -> EngineSettings:
    """Which processes share the work, by the caller's settings. ConfigError for one that is none of theirs."""
    return build(EngineSettings, {name: value for name, value in settings.items() if name not in Runtime.model_fields})


def _prices(given: Any, where: str) -> Any:
    """A price table, or the file that holds it, as pairs."""
    if isinstance(given, str | Path):
        return read_prices(Path(given))
    return price_table(given, where) if isinstance(given, Mapping) else given


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; in a thread of its own where an event loop is already running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread, nothing swallowed)
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
