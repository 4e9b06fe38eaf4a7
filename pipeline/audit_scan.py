"""The scan of an audit on the executors of builds: every task scans its share of the pieces."""

import shutil

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.executor import ExecutorConfig
from configs.terminal import progress
from contamination.corpus import Corpus, Part
from contamination.elsewhere import ScanJob
from pipeline.runner import stage_runner
from pipeline.stages import LOGS
from pipeline.task_report import shown
from shards.hashing import blake3_json

_MOST_TASKS = 1000


class ScanShare(PipelineStep):
    """Scans the share of a task."""

    name = "scan"

    def __init__(self, job: ScanJob, threads: int) -> None:
        super().__init__()
        self.job, self.threads = job, threads

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Scan it; passes no documents on."""
        self.job.scan(Part(rank + 1, world_size), self.threads)
        yield from ()


def scan_by(job: ScanJob, corpus: Corpus, config: ExecutorConfig) -> None:
    """Scan a corpus by an executor; what was scanned before is not scanned again.

    Args:
        job: what to scan for.
        corpus: of the job.
        config: where.

    Raises:
        BuildError: a task failed, or the executor cannot be used.
    """
    tasks = min(len(corpus.pieces), _MOST_TASKS)
    digests = [corpus.digest, *(benchmark.digest for benchmark in job.benchmarks), *job.also]
    key = blake3_json(digests)[:16]
    folder = job.cache / "runs" / f"audit-{key}"  # as a stage's, by which Slurm names its jobs
    logs = folder / LOGS
    threads = config.slurm.cpus_per_task if config.kind == "slurm" else config.ray.cpus_per_task
    with (
        stage_runner(config, None) as runner,
        progress("scanning", tasks, "parts") as bar,
        shown(logs, [1.0] * tasks, bar),
    ):
        runner.run([ScanShare(job, threads)], tasks, logs)
    shutil.rmtree(folder)  # the results are in the cache, under what they depend on
