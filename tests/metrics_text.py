"""Metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

#: The values of labels, in alphabetical order of the labels.
Labels = tuple[str, ...]


def samples(text: str, name: str, *labels: str, **only: str) -> dict[Labels, float]:
    """Return the samples of a metric in Prometheus' text format, summed up by some labels.

    Samples without the values of `only` are left out.
    """
    found: dict[Labels, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and only.items() <= sample.labels.items():
                key = tuple(sample.labels[label] for label in labels)
                found[key] = found.get(key, 0.0) + sample.value
    return found


def nonzero(amounts: Mapping[Labels, float]) -> dict[str, float]:
    """Return the samples of a metric with one label."""
    return {label: amount for (label,), amount in amounts.items() if amount}
