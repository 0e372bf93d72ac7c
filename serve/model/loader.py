"""Loads models: only if they have changed, and within limits of time and memory.

What is new is downloaded and tried in a process of its own. Neither a registry nor a model that
never ends can stop the server, and what is given up ends with that process.
"""

import multiprocessing
import os
import resource
import shutil
import signal
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import TemporaryDirectory
from threading import Thread

from serve.model.engine import Engine
from serve.model.source import REGISTERED, Source, State, fetch, state

LOAD_S = 60.0  # to download a model, to load it and to try it
MAX_FILE_BYTES = 2**31  # of a download; no ONNX file is larger
MAX_MLFLOW_BYTES = 2**30  # of memory while MLflow answers


class Loader:
    """Loads models from their sources. Its process starts when it is first needed."""

    def __init__(self) -> None:
        self._loaded: dict[Source, State] = {}
        self._process: SpawnProcess | None = None

    def load(self, source: Source, old: Engine | None = None) -> Engine | None:
        """Return an engine for the model that the source names now; None if that has not changed.

        old: what the engine will replace, and whose name it keeps.

        Raises:
            TimeoutError: it takes longer than `LOAD_S`.
            OSError, ValueError: see `fetch` and `Engine`; or the inputs or outputs are not those of
                the old engine.
        """
        where, known = source.where, self._loaded.get(source) if old else None
        local = not where.startswith(REGISTERED)
        if local and state(where) == known:
            return None
        # At the start, there is nothing that a file could stop.
        new = (state(where), fetch(where, "")) if local and not old else self._ask(where, known)
        if not new:
            return None
        found, content = new
        engine = Engine(where, content, old.name if old else source.name)
        if old and (engine.inputs, engine.outputs) != (old.inputs, old.outputs):
            raise ValueError(f"{where} has other inputs or outputs: serve it by another server")
        self._loaded[source] = found
        return engine

    def stop(self) -> None:
        """End the process, whatever it does, and remove what it has downloaded."""
        if self._process:
            self._process.kill()
            self._process.join()
            self._folder.cleanup()
            self._process = None

    def _ask(self, where: str, known: State | None) -> tuple[State, bytes] | None:
        if not self._process:
            spawn = multiprocessing.get_context("spawn")
            self._folder = TemporaryDirectory(prefix="serve-model-")
            self._pipe, pipe = spawn.Pipe()
            arguments = [pipe, self._folder.name]
            self._process = spawn.Process(target=load_for, args=arguments, daemon=True)
            self._process.start()
            pipe.close()  # or its end would go unnoticed
        try:
            self._pipe.send((where, known))
            if not self._pipe.poll(LOAD_S):
                raise TimeoutError(f"{where} was not loaded within {LOAD_S:.0f} s")
            new: tuple[State, bytes] | str | None = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.stop()  # the next call starts another
            if isinstance(error, TimeoutError):
                raise
            raise ValueError(f"the process that loads {where} has ended") from error
        if isinstance(new, str):
            raise ValueError(new)
        return new


def load_for(pipe: Connection, folder: str) -> None:
    """Serve a loader until it ends: read what it asks for, and try what is new."""
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the server
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    _, unlimited = resource.getrlimit(resource.RLIMIT_DATA)
    while True:
        where, known = pipe.recv()
        try:
            resource.setrlimit(resource.RLIMIT_DATA, (MAX_MLFLOW_BYTES, unlimited))
            found = state(where)  # first: what changes later is loaded next time
            with TemporaryDirectory(dir=folder) as inner:
                new = None if found == known else (found, fetch(where, inner))
            resource.setrlimit(resource.RLIMIT_DATA, (unlimited, unlimited))
            if new:
                Engine(where, new[1], "tried")
            pipe.send(new)
        except Exception as error:  # of any type: MLflow and its storage raise many
            pipe.send(str(error) if isinstance(error, (OSError, ValueError)) else repr(error))


def end_with_parent(folder: str) -> None:
    """If the process that started this one is killed, remove the folder and end by SIGTERM."""
    parent = multiprocessing.parent_process()
    assert parent

    def follow() -> None:
        wait([parent.sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=follow, daemon=True).start()
