"""The verbs of networks: predict, sample, judge, export, explain with a finished run; fetch."""

from __future__ import annotations

from pathlib import Path

from deeplense_batch.cli import words
from deeplense_batch.cli.data_commands import DataCommands, Plan
from deeplense_batch.core.job import Job, JudgeSection
from deeplense_batch.core.recipe import load_jobs, read_section
from deeplense_batch.models import INCEPTION, published

__all__ = ["ModelCommands"]


class ModelCommands(DataCommands):
    """From a finished run to answers, files for other programs, and maps of what it looks at."""

    def predict(
        self,
        run: str,
        data: str,
        *,
        out: str = "",
        slice: str = "",
        device: str = "",
        part: int | str = 0,
        parts: int | str = 1,
        batch_size: int | str = 256,
        top: int | str = 0,
        of: str = "",
    ) -> Plan:
        """Predict on any number of images, a row for each; go on with it if it was cut off.

        Args:
            run: Run directory of a finished run.
            data: Folder of shards, or images in any layout that pack reads.
            out: The table that is made, .parquet or .csv.
            slice: Of shards, such as val[:100]; by default all splits.
            device: cpu or cuda; by default a GPU where there is one.
            part: Which part of the work to do, from 0; the last to end completes the table.
            parts: Into how many parts it is divided.
            batch_size: Images at once.
            top: Draw so many images of the highest scores, beside the table as .png.
            of: The class of those scores; by default lenses, or the last class.
        """
        file = _file("--out", out, (".parquet", ".csv"))
        counts = {
            name: words.integer(name, text)
            for name, text in (("part", part), ("parts", parts), ("batch_size", batch_size))
        }
        drawn = words.integer("top", top)
        if counts["part"] >= counts["parts"]:
            raise words.UsageError(
                f"--part: {counts['part']} of {counts['parts']} parts; they count from 0"
            )
        if not counts["batch_size"]:
            raise words.UsageError("--batch_size: should be 1 or more")
        if of and not drawn:
            raise words.UsageError("--of: names the class of a sheet; --top N asks for one")
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        read, images = words.folder("RUN", run), words.folder("DATA", data)

        def act() -> int:
            from deeplense_batch.core.processes import signals
            from deeplense_batch.inference.predict import predict

            with signals() as interrupt:
                print(
                    predict(
                        read, images, file, slice_=slice, device=on, top=drawn, of=of,
                        on_batch=interrupt.check, **counts,
                    )
                )  # fmt: skip
            return 0

        return Plan(act, file)

    def sample(
        self,
        run: str,
        *,
        images: int | str = 64,
        out: str = "",
        class_: str = "",
        sampler: str = "dpmpp",
        steps: int | str = 25,
        guidance: str = "1",
        seed: int | str = 0,
        device: str = "",
        part: int | str = 0,
        parts: int | str = 1,
    ) -> Plan:
        """Draw images with a run of the task generation, as shards; go on if it was cut off.

        Args:
            run: Run directory of a finished run.
            images: How many.
            out: Folder of the shards.
            class_: Of this class alone (typed --class); by default all classes equally.
            sampler: ddpm, ddim, dpmpp or heun.
            steps: Of the sampler.
            guidance: How closely the class is followed; 1 is as trained.
            seed: Of all noise.
            device: cpu or cuda; by default a GPU where there is one.
            part: Which part of the files to make, from 0; the last to end completes the set.
            parts: Into how many parts they are divided; 1 is one for each process of torchrun.
        """
        counts = {
            name: words.integer(name, text)
            for name, text in (
                ("images", images), ("steps", steps), ("seed", seed), ("part", part),
                ("parts", parts),
            )
        }  # fmt: skip
        clear = words.number("guidance", guidance)
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        read, folder = words.folder("RUN", run), words.folder("--out", out)

        def act() -> int:
            from deeplense_batch.core.processes import rank, signals, world_size
            from deeplense_batch.inference.generation.sample import sample

            if counts["parts"] == 1:
                counts.update(part=rank(), parts=world_size())
            with signals() as interrupt:
                print(
                    sample(
                        read, folder, class_=class_, sampler=sampler, guidance=clear, device=on,
                        on_batch=interrupt.check, **counts,
                    )
                )  # fmt: skip
            return 0

        return Plan(act, folder)

    def judge(
        self,
        run: str,
        *,
        out: str = "",
        classifier: str = "",
        images: int | str = 0,
        sampler: str = "dpmpp",
        steps: int | str = 25,
        guidance: str = "1",
        seed: int | str = 0,
        device: str = "",
        useful: bool | str = False,
    ) -> Plan:
        """Draw images with a run of the task generation and judge them by real ones.

        It goes on if it was cut off. Runs whose job has a section judge have done this already.

        Args:
            run: Run directory of a finished run; its data have to be there.
            out: Folder of the images, the numbers and the figures.
            classifier: A finished run of a classifier, whose features are compared, or its job's
                folder; without one, what needs none is measured.
            images: How many; by default as many as the test slice has.
            sampler: ddpm, ddim, dpmpp or heun.
            steps: Of the sampler.
            guidance: How closely the class is followed; 1 is as trained.
            seed: Of all noise.
            device: cpu or cuda; by default a GPU where there is one.
            useful: Also train the classifier anew, on these images and on as many originals.
        """
        section = read_section(
            JudgeSection,
            {
                "classifier": classifier or None,
                "images": words.integer("images", images) or None,
                "sampler": sampler,
                "steps": words.integer("steps", steps),
                "guidance": words.number("guidance", guidance),
                "useful": words.flag("useful", useful),
            },
        )
        start = words.integer("seed", seed)
        on = words.choice("device", device, ("cpu", "cuda")) if device else None
        read, folder = words.folder("RUN", run), words.folder("--out", out)

        def act() -> int:
            from deeplense_batch.core.processes import signals
            from deeplense_batch.runs.evaluation_run import judge

            with signals() as interrupt:
                print(judge(read, folder, section, seed=start, device=on, interrupt=interrupt))
            return 0

        return Plan(act, folder)

    def export(
        self, run: str, out: str, *, format: str = "all", schema: str = "described"
    ) -> Plan:
        """Write the network of a run for other programs, with a card that says how to use it.

        Args:
            run: Run directory of a finished run.
            out: Folder that is made.
            format: safetensors, json, onnx, or all of them; onnx needs the extra export.
            schema: Of the JSON: described (data, shape and dtype), or bare lists.
        """
        read, folder = words.folder("RUN", run), words.folder("OUT", out)
        kind = words.choice("format", format, ("safetensors", "json", "onnx", "all"))
        form = words.choice("schema", schema, ("described", "bare"))

        def act() -> int:
            from deeplense_batch.inference.export import export

            for path in export(read, folder, format_=kind, schema=form):
                print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
            return 0

        return Plan(act, folder)

    def explain(
        self,
        run: str,
        *,
        out: str = "",
        ids: str = "",
        slice: str = "",
        of: str = "",
        data: str = "",
        device: str = "",
    ) -> Plan:
        """Draw where in some images a network looks, for each class.

        Args:
            run: Run directory of a finished run.
            out: The picture that is made, .png.
            ids: Names of samples, with commas between.
            slice: Or a slice of the data, such as val[:12].
            of: One class, instead of all.
            data: Folder of shards, by default that of the run.
            device: cpu, the default, or cuda.
        """
        file = _file("--out", out, (".png",))
        if bool(ids) == bool(slice):
            raise words.UsageError("explain: which images? --ids A,B,C or --slice 'val[:12]'")
        on = words.choice("device", device, ("cpu", "cuda")) if device else "cpu"
        names, read = [name for name in ids.split(",") if name], words.folder("RUN", run)

        def act() -> int:
            from deeplense_batch.inference.explain import explain

            explain(read, file, ids=names, slice_=slice, of=of, data=data, device=on)
            print(file)
            return 0

        return Plan(act, file)

    def fetch(self, *jobs: str) -> Plan:
        """Bring published weights that jobs start or judge from to a folder; needs a network.

        Runs never do: they read $DEEPLENSE_WEIGHTS, or weights.

        Args:
            jobs: Recipes; those without model.pretrained: true or a section judge need none.
        """
        found = [job for path in jobs for job in load_jobs(path, {}) if isinstance(job, Job)]
        asked = [job.model for job in found if job.model.pretrained]
        names = {name for model in asked for name in published(model.name, model.options)}
        names |= {INCEPTION for job in found if job.judge is not None}
        if not names:
            raise words.UsageError("fetch: no job given has model.pretrained: true, or is judged")

        def act() -> int:
            from deeplense_batch.models.weights import fetch

            for name in sorted(names):
                path = fetch(name)
                print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
            return 0

        return Plan(act)


def _file(name: str, value: str, endings: tuple[str, ...]) -> Path:
    """Read the name of a file that is made; its ending says what it is."""
    if Path(value).suffix in endings:
        return Path(value)
    raise words.UsageError(f"{name}: a name that ends in {' or '.join(endings)}, got '{value}'")
