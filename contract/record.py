"""What all records that cross the wire have in common."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

#: Stands in Redis keys, in Flower's addresses and on command lines.
JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class Record(BaseModel):
    """A frozen record that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_job_id(job_id: str) -> str:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError("a job id is 1 to 128 letters, digits, or any of . _ : -")
    return job_id


JobId = Annotated[str, AfterValidator(_check_job_id)]
