"""A remark about files with the results of several jobs of SageMaker, such as a labelling and its correction."""

from __future__ import annotations

from collections import Counter

from tfserve.training.dataset.layouts import cloud_records, json_records
from tfserve.training.dataset.search import Search

MAX_FILES = 50


def report(search: Search, *, has_boxes: bool) -> None:
    """Names the jobs whose results were used, and the others."""
    find = cloud_records.jobs_with_boxes if has_boxes else cloud_records.jobs_with_labels
    for path in search.below(search.root, json_records.LINES, depth=2)[:MAX_FILES]:
        several = [
            (record, jobs) for record in json_records.read(path)
            if isinstance(record.get(cloud_records.IMAGE), str) and len(jobs := find(record)) > 1
        ]  # fmt: skip
        used = Counter(cloud_records.newest(record, jobs) for record, jobs in several)
        others = sorted({job for _, jobs in several for job in jobs})
        if used:
            counts = ", ".join(f"{job} ({count} images)" for job, count in used.most_common(5))
            search.remarks.append(
                f"{search.name(path)} has results of several jobs ({', '.join(others[:5])}). Those of the newest job of"
                f" each image were used: {counts}. Remove the fields of jobs that should not be used."
            )
