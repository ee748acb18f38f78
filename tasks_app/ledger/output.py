"""An attempt's output: stored in pieces as it comes, and cut where it is too much."""

from __future__ import annotations

from collections.abc import Sequence

from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.pruning import these
from tasks_app.ledger.records import LogChunk, LogCut

_LOG_CHUNK = {
    "run_id": "int",
    "attempt": "int",
    "seq": "int",
    "stream": "text",
    "text": "text",
    "age_seconds": "float",
}


def append_logs(chunks: Sequence[LogChunk]) -> None:
    """Store pieces of output. A piece that is stored already is passed over."""
    if not chunks:
        return
    sql = dialect()
    fetch(
        f"""
        INSERT INTO tasks_app_runlog (run_id, attempt, seq, at, stream, text)
        SELECT run_id, attempt, seq, {sql.later("-age_seconds")}, stream, text
        FROM {sql.rows(_LOG_CHUNK)} WHERE true
        ON CONFLICT DO NOTHING
        """,
        as_json(chunks),
    )


_LOG_CUT = {
    "run_id": "int",
    "attempt": "int",
    "remark_seq": "int",
    "last_seq": "int",
    "cut_bytes": "int",
}


def cut_logs(cuts: Sequence[LogCut]) -> None:
    """Delete the chunks that are cut out, and say in their place how much it was.

    At most one cut of an attempt in a call. Told twice, it changes nothing more.
    """
    if not cuts:
        return
    sql = dialect()
    run_ids = [cut.run_id for cut in cuts]
    fetch(
        f"""
        DELETE FROM tasks_app_runlog WHERE (run_id, attempt, seq) IN (
            SELECT l.run_id, l.attempt, l.seq FROM {sql.rows(_LOG_CUT)}
            JOIN tasks_app_runlog l ON l.run_id = v.run_id AND l.attempt = v.attempt
            WHERE l.seq > v.remark_seq AND l.seq <= v.last_seq
            {these(run_ids, "l.run_id")})
        {these(run_ids, "run_id")}
        """,
        as_json(cuts),
    )
    fetch(
        f"""
        INSERT INTO tasks_app_runlog (run_id, attempt, seq, at, stream, text)
        SELECT run_id, attempt, remark_seq, {sql.now}, 'gnomon',
            '
[' || cut_bytes || ' bytes of output were cut here]
'
        FROM {sql.rows(_LOG_CUT)} WHERE true
        ON CONFLICT (run_id, attempt, seq) DO UPDATE SET text = excluded.text
        """,
        as_json(cuts),
    )
