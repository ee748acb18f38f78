"""Which worker gets a run: queues, lanes, wishes, broadcasts, draining; and in what
order."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from tasks_app import ledger
from tasks_app.ledger import NewRun
from tasks_app.ledger.attempts import MAX_LANES
from tasks_app.models import Queue, Task, TaskRun
from tasks_app.rules.placement import can_take
from tasks_app.services.runs import run_rerun
from tests.factories import (
    ask,
    claim,
    end,
    heartbeat,
    make_run,
    make_task,
    make_worker,
    shift,
)
from workers_app.models import WorkerInfo
from workers_app.registration import worker_offline

pytestmark = pytest.mark.django_db


def claimed(worker: WorkerInfo, limit: int = 100) -> list[int]:
    """The ids of the runs that the worker gets, in their order."""
    return [run.run_id for run in ask(limit, worker)]


def fire(task: Task) -> list[TaskRun]:
    """The runs that one trigger makes."""
    last = make_run(task)
    runs = TaskRun.objects.filter(task=task, scheduled_for=last.scheduled_for)
    return list(runs.order_by("shard_index"))


def drain(worker: WorkerInfo) -> None:
    WorkerInfo.objects.filter(pk=worker.pk).update(is_draining=True)


class TestQueues:
    def test_a_worker_gets_runs_of_its_queues_only(self) -> None:
        here, there = make_run(make_task(queue="a")), make_run(make_task(queue="b"))
        assert claimed(make_worker(queues=["b", "c"])) == [there.pk]
        assert claimed(make_worker(queues=["a"])) == [here.pk]

    def test_a_queue_keeps_its_limit_over_all_lanes(self) -> None:
        Queue.objects.create(name="narrow", max_concurrency=2)
        for match in ("", "", "gpu", "gpu"):
            make_run(make_task(queue="narrow", match=match))
        worker = make_worker(queues=["narrow"], tags=["gpu"])
        assert len(claimed(worker)) == 2
        assert claimed(worker) == []


class TestPriority:
    def test_the_highest_goes_first_then_the_longest_due(self) -> None:
        expected = []
        for place, (queue, match, priority) in enumerate(
            product(["a", "b"], ["", "gpu", "not spot"], [2, 9, 5])
        ):
            run = make_run(make_task(queue=queue, match=match, priority=priority))
            # The later it is made, the longer it has been due.
            shift(TaskRun, run.pk, 60 * place, "due_at")
            expected.append((-priority, -place, run.pk))
        worker = make_worker(queues=["a", "b"], tags=["gpu"])
        order = [pk for *_, pk in sorted(expected)]
        assert [claimed(worker, 1) for _ in order] == [[pk] for pk in order]

    def test_one_claim_answers_in_that_order(self) -> None:
        runs = [make_run(make_task(priority=priority)) for priority in (1, 9, 4)]
        assert claimed(make_worker()) == [runs[1].pk, runs[2].pk, runs[0].pk]

    def test_a_run_that_is_not_due_yet_holds_nobody_up(self) -> None:
        later, now = make_run(make_task(priority=9)), make_run(make_task(priority=0))
        shift(TaskRun, later.pk, -60, "due_at")
        assert claimed(make_worker()) == [now.pk]


class TestTags:
    @pytest.mark.parametrize(
        ("match", "tags", "taken"),
        [
            ("gpu", ["gpu"], 1),
            ("gpu", ["GPU"], 0),
            ("gpu", [], 0),
            ("gpu and not spot", ["gpu", "spot"], 0),
            ("gpu and not spot", ["gpu", "zone=eu-1"], 1),
            ("zone=eu-1 or zone=eu-2", ["zone=eu-2"], 1),
            ("not spot", [], 1),
        ],
    )
    def test_a_worker_gets_what_its_tags_match(
        self, match: str, tags: list[str], taken: int
    ) -> None:
        make_run(make_task(match=match))
        assert len(claimed(make_worker(tags=tags))) == taken

    def test_a_lane_that_cannot_be_read_costs_the_others_nothing(self) -> None:
        broken, run = make_run(make_task(match="gpu")), make_run()
        TaskRun.objects.filter(pk=broken.pk).update(lane="gpu and (")
        assert claimed(make_worker(tags=["gpu"])) == [run.pk]

    def test_more_lanes_than_one_claim_takes_are_all_come_to(self) -> None:
        runs = {
            make_run(make_task(match=f"a{n} or b")).pk for n in range(MAX_LANES + 9)
        }
        worker = make_worker(tags=["b"])
        found: set[int] = set()
        for _ in range(20):
            found.update(claimed(worker))
        assert found == runs


class TestNamedWorker:
    def test_only_that_one_gets_it(self) -> None:
        other, named = make_worker("other"), make_worker("named")
        run = make_run(make_task(placement="worker", worker_name="named"))
        assert claimed(other) == []
        assert claimed(named) == [run.pk]

    def test_it_waits_while_that_one_is_offline(self) -> None:
        named = make_worker("named")
        run = make_run(make_task(placement="worker", worker_name="named"))
        worker_offline(named.pk)
        shift(WorkerInfo, named.pk, 3600, "last_heartbeat")
        assert ledger.expire_shards() == 0
        assert claimed(make_worker("named")) == [run.pk]  # started anew

    def test_a_tag_cannot_pass_for_its_name(self) -> None:
        make_run(make_task(placement="worker", worker_name="named"))
        assert claimed(make_worker("other", tags=["worker:named", "named"])) == []


class TestLeastLoaded:
    def test_it_waits_a_moment_for_the_least_loaded(self) -> None:
        busy, idle = make_worker("a-busy"), make_worker("b-idle")
        claim(make_run(), busy)
        run = make_run(make_task(placement="least_loaded"))
        assert claimed(busy) == []
        assert claimed(idle) == [run.pk]

    def test_load_is_the_part_of_the_slots(self) -> None:
        small, large = make_worker("a", max_tasks=2), make_worker("b", max_tasks=100)
        claim(make_run(), small)
        for _ in range(10):
            claim(make_run(), large)
        (run,) = fire(make_task(placement="least_loaded"))
        assert run.wanted_worker_id == large.pk

    def test_runs_that_wait_count_as_load(self) -> None:
        workers = [make_worker(name, max_tasks=4) for name in ("a", "b", "c")]
        task = make_task(placement="least_loaded")
        runs = [make_run(task) for _ in range(6)]
        wanted = [run.wanted_worker_id for run in runs]
        assert Counter(wanted) == dict.fromkeys([each.pk for each in workers], 2)

    def test_runs_of_one_statement_are_spread_too(self) -> None:
        workers = [make_worker(name, max_tasks=4) for name in ("a", "b", "c")]
        task = make_task(placement="least_loaded")
        version = task.versions.get()
        new = NewRun(task.pk, version.pk, "api", "default")
        ids = ledger.create([new] * 6)
        wanted = TaskRun.objects.filter(pk__in=ids).values_list(
            "wanted_worker_id", flat=True
        )
        assert Counter(wanted) == dict.fromkeys([each.pk for each in workers], 2)

    def test_only_workers_that_can_take_it_are_weighed(self) -> None:
        make_worker("a", tags=["spot"])
        make_worker("b", queues=["other"])
        drain(make_worker("c"))
        worker_offline(make_worker("d").pk)
        fit = make_worker("e", tags=["gpu"])
        for _ in range(3):
            claim(make_run(), fit)
        (run,) = fire(make_task(placement="least_loaded", match="gpu"))
        assert run.wanted_worker_id == fit.pk

    def test_when_the_wish_is_past_any_worker_gets_it(self) -> None:
        make_worker("a-idle")
        other = make_worker("b-other")
        run = make_run(make_task(placement="least_loaded"))
        assert claimed(other) == []
        shift(TaskRun, run.pk, 60, "wanted_until")
        assert claimed(other) == [run.pk]

    def test_with_all_full_it_wishes_for_none(self) -> None:
        full = make_worker(max_tasks=1)
        claim(make_run(), full)
        (run,) = fire(make_task(placement="least_loaded"))
        assert run.wanted_worker_id is None


class TestSameWorker:
    def test_it_goes_where_it_ran_last(self) -> None:
        task = make_task(placement="same_worker")
        one, two = make_worker("one"), make_worker("two")
        for worker in (two, one, two):
            run = make_run(task)
            TaskRun.objects.filter(pk=run.pk).update(wanted_until=run.created_at)
            assert claimed(worker) == [run.pk]
        run = make_run(task)
        assert run.wanted_worker_id == two.pk
        assert claimed(one) == []
        assert claimed(two) == [run.pk]

    def test_with_that_one_gone_any_will_do(self) -> None:
        task = make_task(placement="same_worker")
        gone = make_worker("gone")
        claim(make_run(task), gone)
        worker_offline(gone.pk)
        run = make_run(task)
        assert run.wanted_worker_id is None
        assert claimed(make_worker("other")) == [run.pk]


class TestBroadcast:
    def test_each_online_worker_that_fits_gets_one(self) -> None:
        fit = [make_worker(name, tags=["gpu"]) for name in ("b", "a", "c")]
        make_worker("d")
        drain(make_worker("e", tags=["gpu"]))
        worker_offline(make_worker("f", tags=["gpu"]).pk)
        make_worker("g", tags=["gpu"], queues=["other"])
        runs = fire(make_task(placement="broadcast", match="gpu"))
        assert [(run.lane, run.shard_index, run.shard_total) for run in runs] == [
            ("worker:a", 0, 3),
            ("worker:b", 1, 3),
            ("worker:c", 2, 3),
        ]
        got = {worker.name: ask(9, worker) for worker in fit}
        assert {
            name: [(run.shard_index, run.shard_total) for run in found]
            for name, found in got.items()
        } == {"a": [(0, 3)], "b": [(1, 3)], "c": [(2, 3)]}

    def test_without_a_worker_it_is_skipped_and_says_so(self) -> None:
        (run,) = fire(make_task(placement="broadcast", queue="nobody"))
        assert run.status == "skipped"
        assert run.reason.startswith("broadcast: no online worker")

    def test_runs_of_a_worker_that_went_offline_expire_after_a_lease(self) -> None:
        gone, there = make_worker("gone"), make_worker("there")
        lost, kept = fire(make_task(placement="broadcast"))
        waiting = make_run(make_task(placement="worker", worker_name="gone"))
        worker_offline(gone.pk)
        assert ledger.expire_shards() == 0  # it may be restarting
        shift(WorkerInfo, gone.pk, 31, "last_heartbeat")
        assert ledger.expire_shards() == 1
        lost.refresh_from_db()
        assert (lost.status, lost.reason) == ("expired", "worker_offline")
        assert lost.error == "gone went offline before it started"
        assert lost.events.filter(kind="finished", status="expired").exists()
        assert claimed(there) == [kept.pk]
        waiting.refresh_from_db()
        assert waiting.status == "queued"
        assert ledger.expire_shards() == 0

    def test_runs_of_a_draining_worker_wait(self) -> None:
        worker = make_worker()
        (run,) = fire(make_task(placement="broadcast"))
        drain(worker)
        shift(WorkerInfo, worker.pk, 31, "last_heartbeat")
        assert ledger.expire_shards() == 0
        assert claimed(worker) == []
        WorkerInfo.objects.update(is_draining=False)
        assert claimed(worker) == [run.pk]

    def test_a_rerun_goes_to_the_workers_of_today(self) -> None:
        make_worker("a")
        run = end(make_run())
        Task.objects.filter(pk=run.task_id).update(placement="broadcast")
        make_worker("b")
        again = run_rerun(run=TaskRun.objects.get(pk=run.pk), actor="user:test")
        assert again.shard_total == 3  # with the one that ran it


class TestDraining:
    def test_a_draining_worker_gets_nothing(self) -> None:
        worker = make_worker("named", tags=["gpu"])
        make_run()
        make_run(make_task(match="gpu"))
        make_run(make_task(placement="worker", worker_name="named"))
        held = ask(1, worker)
        drain(worker)
        assert claimed(worker) == []
        assert len(held) == 1
        assert len(claimed(make_worker(tags=["gpu"]))) == 1
        WorkerInfo.objects.filter(pk=worker.pk).update(is_draining=False)
        assert len(claimed(worker)) == 1

    def test_its_heartbeat_keeps_what_it_has(self) -> None:
        worker = make_worker()
        found = claim(make_run(), worker)
        drain(worker)
        answer = heartbeat(worker, ledger.Lease(found.run_id, found.attempt))
        assert not answer.gone


class TestAnyFleet(TestCase):
    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["", "gpu", "not gpu", "gpu or eu", "worker:a"]),
                st.sampled_from(["x", "y"]),
                st.integers(0, 2),
            ),
            max_size=12,
        ),
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.frozensets(st.sampled_from(["gpu", "eu"])),
                st.lists(st.sampled_from(["x", "y"]), min_size=1, unique=True),
            ),
            max_size=3,
            unique_by=lambda worker: worker[0],
        ),
    )
    def test_a_claim_takes_the_best_of_what_can_take_tells(
        self,
        runs: list[tuple[str, str, int]],
        workers: list[tuple[str, frozenset[str], list[str]]],
    ) -> None:
        """The SQL of a claim and the rule that people are told from are of one mind."""
        made = {
            name: make_worker(name, tags=sorted(tags), queues=queues)
            for name, tags, queues in workers
        }
        waiting = []
        for lane, queue, priority in runs:
            named = lane.startswith("worker:")
            task = make_task(
                queue=queue,
                priority=priority,
                match="" if named else lane,
                placement="worker" if named else "any",
                worker_name="a" if named else "",
            )
            waiting.append(make_run(task))
        for view in ledger.workers():
            fitting = [
                run for run in waiting if not can_take(view, run.queue, run.lane)
            ]
            fitting.sort(key=lambda run: (-run.priority, run.due_at, run.pk))
            taken = claimed(made[view.name], 4)
            assert taken == [run.pk for run in fitting[:4]]
            waiting = [run for run in waiting if run.pk not in taken]
