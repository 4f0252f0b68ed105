"""Read the documents of one query: one text per line, or JSONL."""

from __future__ import annotations

from typing import Any

from contract import jobs
from producer.files.quoting import quoted
from producer.formats import values
from producer.formats.detection import FileKind
from producer.formats.keys import ID_KEYS, TEXT_KEYS, document_text, first_key
from producer.formats.records import InvalidLines, read_records


def read_documents(path: str) -> list[dict[str, Any] | str]:
    """Return the documents of one query: one text per line, or JSONL. Raises `InvalidInput`.

    JSON objects have rerankq's keys (`{"id", "text"}`, with "score" and "metadata"), or those of
    corpora.
    """
    seen: set[str] = set()

    def parse(_: int, line: str) -> dict[str, Any] | str:
        if not values.is_json(line):
            if "\r" in line:
                raise ValueError(
                    "the text contains a carriage return; end each text with a line feed"
                )
            return line
        data = _document(values.json_object(line))
        if "id" in data:
            if data["id"] in seen:
                raise ValueError(f"duplicate document id {quoted(data['id'])}")
            seen.add(data["id"])
        return data

    return [item for _, item in read_records(path, parse, InvalidLines(), FileKind.DOCUMENTS)]


def _document(data: dict[str, Any]) -> dict[str, Any]:
    id_key, text_key = first_key(data, ID_KEYS), first_key(data, TEXT_KEYS)
    if (id_key or "id") != "id" or (text_key or "text") != "text" or "title" in data:
        data = {"text": document_text("the document", data)} | (
            {"id": data[id_key]} if id_key else {}
        )
    if type(data.get("id")) is int:
        data = {**data, "id": str(data["id"])}
    jobs.parse(jobs.Candidate, {"id": "-", **data})
    return data
