"""Classifies a folder of pictures, or a Parquet file with them, on the machines of a Ray cluster.

    pip install "ray[data]"
    python ray_folder.py photos/ classes.parquet --model timm/mobilenetv3_large_100.ra_in1k
    python ray_folder.py photos.parquet classes.jsonl --column bytes --id key --workers 4 --gpus 1

The input is a folder, any other path of pictures that Ray can list (`s3://...`), or a Parquet file with a column of
encoded pictures and one of ids. The output is a folder of Parquet or, with the ending .jsonl, of JSON files: one row
for each picture with its id, and its class or the error.

Each worker is an actor that holds one session. Ray gives it the pictures of a batch, keeps the next ones ready, and
holds back reading while workers are busy. A picture that cannot be read gives a row with an error, not a failed job. If
a worker dies, Ray starts another and repeats its batch.

Reading needs cores too: workers that reserve all of them (`--cpus`) would wait for pictures forever. With `--gpus 0.5`,
two workers share a GPU.
"""

import argparse
from pathlib import Path

import ray

import goldcrest


class Classifier:
    """A worker."""

    def __init__(self, model, device, threads, top):
        self.session = goldcrest.load(model, device=device, threads=threads)
        self.top = top

    def __call__(self, batch):
        """Classifies the encoded pictures of a batch."""
        labels, probabilities, errors = [], [], []
        for found in self.session.classify_all(batch["bytes"], top=self.top, on_error="return"):
            failed = isinstance(found, Exception)
            errors.append(str(found) if failed else "")
            labels.append([] if failed else [c.label or str(c.index) for c in found])
            probabilities.append([] if failed else [float(c.probability or 0) for c in found])
        # Ray stores these as columns of lists, whether or not the lists are equally long.
        return {"id": batch["id"], "labels": labels, "probabilities": probabilities, "error": errors}


def pictures(arguments):
    """The pictures as a dataset with the columns `id` and `bytes`."""
    if arguments.pictures.endswith(".parquet"):
        columns = {arguments.id: "id", arguments.column: "bytes"}
        found = ray.data.read_parquet(arguments.pictures, columns=list(columns))
    else:
        columns = {"path": "id", "bytes": "bytes"}
        found = ray.data.read_binary_files(arguments.pictures, include_paths=True)
    return found.rename_columns({old: new for old, new in columns.items() if old != new})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", help="a folder of pictures, or a .parquet file")
    parser.add_argument("output", help="the folder of results; JSON if it ends with .jsonl, else Parquet")
    parser.add_argument("--model", default="demo:classify", help="as for goldcrest.load")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--cpus", type=float, default=0.5, help="cores that Ray reserves for each worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker; 0 runs on the CPU")
    parser.add_argument("--batch", type=int, default=64, help="pictures that a worker gets at once")
    parser.add_argument("--top", type=int, default=1)
    parser.add_argument("--column", default="bytes", help="the column of encoded pictures in a .parquet file")
    parser.add_argument("--id", default="id", help="the column of ids in a .parquet file")
    arguments = parser.parse_args()

    classes = pictures(arguments).map_batches(
        Classifier,
        fn_constructor_args=(
            arguments.model,
            "gpu" if arguments.gpus else "cpu",
            arguments.threads,
            arguments.top,
        ),
        batch_size=arguments.batch,
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=arguments.cpus,
        num_gpus=arguments.gpus,
        max_restarts=-1,
        max_task_retries=-1,
    )
    write = classes.write_json if Path(arguments.output).suffix == ".jsonl" else classes.write_parquet
    write(arguments.output)


if __name__ == "__main__":
    main()
