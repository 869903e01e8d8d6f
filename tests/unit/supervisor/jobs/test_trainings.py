"""Training tasks: examined at once, trained in order by a limited number of workers, and never forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from queues import locked, read, until
from task_trainer import WAITS, Trainer, as_if_killed, begun, let_go, open_trainer

from tfserve.db.models import Job as JobRow
from tfserve.db.training_tasks import NoSuchTask, NotResumable
from tfserve.errors import Internal, Invalid, Unavailable
from tfserve.ipc.messages import JobState, KeepFeedback
from tfserve.supervisor.jobs import journal
from tfserve.supervisor.jobs.training_run import FolderInUse, FolderReserved, TooManyTasks
from tfserve.training.dataset.dataset_index import Findings


async def error(trainer: Trainer, task_id: str) -> dict[str, object]:
    """The failure of the task's run."""
    job_id = (await trainer.row(task_id)).job_id
    text = await read(lambda: JobRow.objects.select_related("outcome").get(pk=job_id).outcome.error)
    found: dict[str, object] = json.loads(text)
    return found


# --- from the start to the result


async def test_a_task_is_examined_recorded_trained_and_done(database: Path, tmp_path: Path) -> None:
    project = tmp_path / "p"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project, f"print('epoch 1', flush=True); {WAITS}")
        await begun(project)
        row = await trainer.row(task_id)
        assert (row.user_id, row.project_id, row.project_dir) == ("u", "p", str(project))
        assert row.dataset == {"layout": "folders"}
        assert row.skipped == [{"path": "a.txt", "reason": "not an image file"}]
        assert (row.job.state, row.job.number, row.job.attempts) == ("running", 0, 1)
        assert row.worker.startswith("train-")
        assert (len(trainer.trainings.running), trainer.trainings.waiting_count) == (1, 0)
        let_go(project)
        assert await trainer.ended(task_id) == ["succeeded"]
        row = await trainer.row(task_id)
        assert (row.progress, row.message, row.worker, row.eta_s) == (100.0, "done", "", None)
        assert row.metrics == {"accuracy": 1.0}
        assert row.model_path == str(project / "models" / task_id)
        assert (trainer.folder(task_id) / "output").read_text() == "epoch 1\n"
        assert trainer.trainings.outcomes == {JobState.SUCCEEDED: 1}
        assert trainer.trainings.running == []


async def test_a_task_that_waits_says_what_was_found(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        await trainer.start(tmp_path / "a", WAITS)
        waiting = await trainer.start(tmp_path / "b")
        row = await trainer.row(waiting)
        assert (row.job.state, row.message) == ("queued", "waiting; 8 images, 1 left out; folders")


async def test_the_verdict_and_the_task_that_it_started_from_are_in_the_message(database: Path, tmp_path: Path) -> None:
    program = "t.end.metrics = {'verdict': 'good', 'warm_start': {'task': 'abc', 'reused': 3}}"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", program)
        await trainer.ended(task_id)
        assert (await trainer.row(task_id)).message == "done: good; started from task abc"


async def test_a_project_with_problems_is_refused_with_all_of_them_and_leaves_nothing(
    database: Path, tmp_path: Path
) -> None:
    problems = [f"problem {number}" for number in range(30)]
    async with open_trainer(database) as trainer:
        with pytest.raises(Invalid, match=r"problem 0; problem 1; .*problem 19$") as refusal:
            await trainer.start(tmp_path / "p", parameters={"problems": problems})
        assert refusal.value.detail["problems"] == problems
        assert await trainer.rows() == []
        assert list((database.parent / "training").iterdir()) == []
        task_id = await trainer.start(tmp_path / "p")
        assert await trainer.ended(task_id) == ["succeeded"], "the folder is free again"


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"dies": True}, Internal, "The project could not be examined: the worker died, it was killed by SIGKILL"),
        ({"refusal": "epochs: a number was expected"}, Invalid, "epochs: a number was expected"),
    ],
)
async def test_an_examination_that_fails_is_reported_and_leaves_nothing(
    database: Path, tmp_path: Path, parameters: dict[str, object], kind: type[Exception], message: str
) -> None:
    async with open_trainer(database) as trainer:
        with pytest.raises(kind, match=message):
            await trainer.start(tmp_path / "p", parameters=parameters)
        assert await trainer.rows() == []


async def test_uploaded_weights_are_kept_with_the_task_and_named_to_the_training(
    database: Path, tmp_path: Path
) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", weights=b"\x89HDF\r\n\x1a\nrest")
        kept = Path((await trainer.row(task_id)).parameters["weights"])
        assert kept.parent == trainer.folder(task_id)
        assert (await asyncio.to_thread(kept.read_bytes)).endswith(b"rest")
        await trainer.ended(task_id)


async def test_weights_that_can_not_be_kept_are_reported(database: Path, tmp_path: Path) -> None:
    (database.parent / "training").write_text("in the way")
    async with open_trainer(database) as trainer:
        with pytest.raises(Unavailable, match="weights: "):
            await trainer.start(tmp_path / "p", weights=b"x")
        assert await trainer.rows() == []


# --- order and limits


async def test_tasks_are_trained_one_after_the_other_in_the_order_in_which_they_came(
    database: Path, tmp_path: Path
) -> None:
    projects = [tmp_path / name for name in "abc"]
    async with open_trainer(database, train_workers=1) as trainer:
        tasks = [await trainer.start(project, WAITS) for project in projects]
        for number, project in enumerate(projects):
            await begun(project)
            states = await trainer.states(*tasks)
            assert states == ["succeeded"] * number + ["running"] + ["queued"] * (2 - number)
            let_go(project)
        assert await trainer.ended(*tasks) == ["succeeded"] * 3
        assert [row.job.number for row in await trainer.rows()] == [0, 1, 2]


async def test_as_many_tasks_as_there_are_workers_are_trained_at_a_time(database: Path, tmp_path: Path) -> None:
    projects = [tmp_path / name for name in "abc"]
    async with open_trainer(database, train_workers=2) as trainer:
        tasks = [await trainer.start(project, WAITS) for project in projects]
        await begun(projects[0])
        await begun(projects[1])
        assert await trainer.states(*tasks) == ["running", "running", "queued"]
        let_go(projects[1])
        await begun(projects[2])
        assert await trainer.states(*tasks) == ["running", "succeeded", "running"]
        let_go(projects[0])
        let_go(projects[2])
        await trainer.ended(*tasks)


async def test_more_tasks_than_the_server_takes_are_refused(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, max_tasks=2) as trainer:
        first = await trainer.start(tmp_path / "a", WAITS)
        await trainer.start(tmp_path / "b", WAITS)
        with pytest.raises(TooManyTasks, match=r"2 training tasks are waiting or running, .* \(max_tasks\)"):
            await trainer.start(tmp_path / "c")
        await trainer.trainings.cancel(first)
        await trainer.start(tmp_path / "c")


async def test_a_folder_is_trained_on_by_one_task_at_a_time(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        starts = [trainer.start(tmp_path / "p", WAITS) for _ in range(3)]
        answers = await asyncio.gather(*starts, return_exceptions=True)
        (task_id,) = [each for each in answers if isinstance(each, str)]
        assert [type(each) for each in answers if each is not task_id] == [FolderReserved] * 2
        with pytest.raises(FolderInUse, match=f"Task {task_id} is already training on {tmp_path / 'p'}"):
            await trainer.start(tmp_path / "p")
        let_go(tmp_path / "p")
        await trainer.ended(task_id)
        again = await trainer.start(tmp_path / "p")
        assert await trainer.ended(again) == ["succeeded"]


# --- progress


async def test_progress_is_recorded_while_it_trains_and_never_goes_back(database: Path, tmp_path: Path) -> None:
    project = tmp_path / "p"
    program = f"t.progress(40, 'epoch 4', eta_s=9.0, metrics={{'loss': 1}}); {WAITS}; t.progress(30, 'epoch 3')\n"
    program += "t.progress(100, 'nearly'); t.until('end')"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project, program)
        await until_message(trainer, task_id, "epoch 4")
        row = await trainer.row(task_id)
        assert (row.progress, row.eta_s, row.metrics) == (40.0, 9.0, {"loss": 1})
        let_go(project)
        await until_message(trainer, task_id, "nearly")
        assert (await trainer.row(task_id)).progress == 99.9, "100 is kept for the end"
        (project / "end").touch()
        assert await trainer.ended(task_id) == ["succeeded"]
        assert (await trainer.row(task_id)).message == "done"


async def until_message(trainer: Trainer, task_id: str, message: str) -> None:
    async with asyncio.timeout(20):
        while (await trainer.row(task_id)).message != message:
            await trainer.changed.wait(0.5)


# --- the model of a task that is done


async def test_the_result_is_deployed_before_the_task_is_done(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", deploy_to="shop")
        assert await trainer.ended(task_id) == ["succeeded"]
        assert trainer.deployed == [("shop", str(tmp_path / "p" / "models" / task_id))]


async def test_a_result_that_can_not_be_deployed_is_done_and_says_so(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        trainer.deploy_error = Invalid("no such workspace")
        task_id = await trainer.start(tmp_path / "p", deploy_to="shop")
        assert await trainer.ended(task_id) == ["succeeded"]
        assert (await trainer.row(task_id)).message == "done, but not deployed: no such workspace"


async def test_feedback_is_kept_for_the_next_training_of_the_project(database: Path, tmp_path: Path) -> None:
    project, image = tmp_path / "p", b"\x89PNG and so on"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project)
        await trainer.ended(task_id)
        found = Findings(
            train_type="classification", project_dir=str(project), labels=["a", "b"], numbers=[0, 1], images=[],
            skipped=[], problems=[],
        )  # fmt: skip
        (trainer.folder(task_id) / "findings.json").write_bytes(msgspec.json.encode(found))
        kept = await trainer.trainings.keep_feedback(KeepFeedback(task_id=task_id, label="b", image=image))
        assert (kept.label, kept.images) == ("b", 1)
        assert (project / kept.file).read_bytes() == image
        with pytest.raises(NoSuchTask):
            await trainer.trainings.keep_feedback(KeepFeedback(task_id="none", label="b", image=image))
        (project / "models" / "feedback" / "a").write_text("in the way")
        with pytest.raises(Unavailable, match="The image can't be kept in"):
            await trainer.trainings.keep_feedback(KeepFeedback(task_id=task_id, label="a", image=image))


# --- cancelling


async def test_a_task_that_waits_is_cancelled_without_being_trained(database: Path, tmp_path: Path) -> None:
    projects = [tmp_path / name for name in "abc"]
    async with open_trainer(database) as trainer:
        tasks = [await trainer.start(project, WAITS) for project in projects]
        await begun(projects[0])
        await trainer.trainings.cancel(tasks[1])
        assert await trainer.states(*tasks) == ["running", "cancelled", "queued"]
        let_go(projects[0])
        await begun(projects[2])
        row = await trainer.row(tasks[1])
        assert (row.message, row.job.attempts) == ("cancelled", 0)
        assert (await error(trainer, tasks[1]))["message"] == "The job was cancelled."


async def test_a_running_task_that_obeys_is_cancelled_and_the_next_one_begins(database: Path, tmp_path: Path) -> None:
    projects = [tmp_path / name for name in "ab"]
    async with open_trainer(database, cancel_grace_s=30.0) as trainer:
        tasks = [await trainer.start(project, f"{WAITS}; t.checkpoint(2)") for project in projects]
        await begun(projects[0])
        await trainer.trainings.cancel(tasks[0])
        assert await trainer.states(tasks[0]) == ["cancelled"]
        assert (trainer.folder(tasks[0]) / "work" / "checkpoint-000002.npz").exists()
        await begun(projects[1])
        assert (await trainer.row(tasks[0])).worker == ""


async def test_a_running_task_that_does_not_obey_ends_with_its_worker(database: Path, tmp_path: Path) -> None:
    project = tmp_path / "p"
    async with open_trainer(database, cancel_grace_s=0.05) as trainer:
        task_id = await trainer.start(project, "t.note('begun'); import time; time.sleep(60)")
        await begun(project)
        await trainer.trainings.cancel(task_id)
        assert await trainer.states(task_id) == ["cancelled"]


async def test_a_task_that_is_cancelled_while_its_worker_starts_is_cancelled(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database, cancel_grace_s=0.05) as trainer:
        task_id = await trainer.start(tmp_path / "p", WAITS)
        await trainer.trainings.cancel(task_id)
        assert await trainer.states(task_id) == ["cancelled"]


async def test_a_task_that_has_ended_can_be_cancelled_without_effect_and_an_unknown_one_can_not(
    database: Path, tmp_path: Path
) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p")
        await trainer.ended(task_id)
        await trainer.trainings.cancel(task_id)
        assert await trainer.states(task_id) == ["succeeded"]
        with pytest.raises(NoSuchTask):
            await trainer.trainings.cancel("none")


# --- failures and deaths


async def test_a_training_that_fails_says_why_and_the_next_one_begins(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        failing = await trainer.start(tmp_path / "a", "t.fail('loss is not a number')")
        following = await trainer.start(tmp_path / "b")
        assert await trainer.ended(failing, following) == ["failed", "succeeded"]
        assert (await trainer.row(failing)).message == "ended with an error"
        assert (await error(trainer, failing))["message"] == "loss is not a number"


async def test_a_training_whose_worker_dies_continues_from_its_last_checkpoint_with_the_same_output(
    database: Path, tmp_path: Path
) -> None:
    program = "print('attempt', t.attempt, flush=True)\nif t.attempt == 1: t.checkpoint(3); t.die()"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", program)
        assert await trainer.ended(task_id) == ["succeeded"]
        row = await trainer.row(task_id)
        assert (row.job.attempts, row.job.number) == (2, 0)
        first, reason, second = (trainer.folder(task_id) / "output").read_text().splitlines()
        assert (first, second) == ("attempt 1", "attempt 2")
        assert reason.startswith("continuing from the last checkpoint, since its worker died: it was killed by SIGKILL")


async def test_a_training_continues_as_long_as_each_death_comes_after_a_further_checkpoint(
    database: Path, tmp_path: Path
) -> None:
    program = "if t.attempt < 5: t.checkpoint(t.attempt); t.die()"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", program)
        assert await trainer.ended(task_id) == ["succeeded"]
        assert (await trainer.row(task_id)).job.attempts == 5


async def test_a_training_that_dies_again_and_again_without_a_checkpoint_is_lost_and_the_next_one_begins(
    database: Path, tmp_path: Path
) -> None:
    async with open_trainer(database) as trainer:
        dying = await trainer.start(tmp_path / "a", "print('why', flush=True); t.die()")
        following = await trainer.start(tmp_path / "b")
        assert await trainer.ended(dying, following) == ["lost", "succeeded"]
        row = await trainer.row(dying)
        assert (row.job.attempts, row.message, row.worker) == (3, "ended with an error", "")
        failure = await error(trainer, dying)
        assert failure["code"] == "lost"
        assert "SIGKILL" in str(failure["message"])


async def test_a_training_that_died_is_the_next_one_again_and_waits_behind_nobody(
    database: Path, tmp_path: Path
) -> None:
    projects = [tmp_path / name for name in "ab"]
    async with open_trainer(database) as trainer:
        tasks = [
            await trainer.start(projects[0], "t.note('begun'); t.until('go' * t.attempt)\nif t.attempt == 1: t.die()"),
            await trainer.start(projects[1], WAITS),
        ]
        await begun(projects[0])
        let_go(projects[0])
        await begun(projects[0])
        assert (await trainer.states(*tasks))[1] == "queued"
        assert not (projects[1] / "begun").exists()


# --- resuming


async def test_a_cancelled_task_is_resumed_with_another_run_that_continues_in_its_folder(
    database: Path, tmp_path: Path
) -> None:
    project = tmp_path / "p"
    program = f"print('attempt', t.attempt, flush=True); t.progress(40)\nif t.attempt == 1: {WAITS}"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project, program)
        await begun(project)
        await trainer.trainings.cancel(task_id)
        before = await trainer.row(task_id)
        await trainer.trainings.resume(task_id)
        assert (await trainer.row(task_id)).progress == 40.0
        assert await trainer.ended(task_id) == ["succeeded"]
        after = await trainer.row(task_id)
        assert (after.job.number, after.pk) == (before.job.number + 1, before.pk)
        assert (await read(lambda: JobRow.objects.get(pk=before.job_id))).state == "cancelled"
        assert (trainer.folder(task_id) / "output").read_text() == "attempt 1\nattempt 2\n"


async def test_a_resumed_task_that_was_lost_may_die_as_often_as_a_new_one(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", "if t.attempt < 6: t.die()")
        assert await trainer.ended(task_id) == ["lost"]
        await trainer.trainings.resume(task_id)
        assert await trainer.ended(task_id) == ["succeeded"]
        assert (await trainer.row(task_id)).job.attempts == 3


async def test_only_a_task_that_has_ended_and_is_not_done_can_be_resumed(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        done = await trainer.start(tmp_path / "a")
        await trainer.ended(done)
        running, waiting = [await trainer.start(tmp_path / name, WAITS) for name in "bc"]
        for task_id in (done, running, waiting):
            with pytest.raises(NotResumable, match=f"Task {task_id}"):
                await trainer.trainings.resume(task_id)
        with pytest.raises(NoSuchTask):
            await trainer.trainings.resume("none")


async def test_several_calls_at_once_resume_a_task_once(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(tmp_path / "p", "t.fail('no')")
        await trainer.ended(task_id)
        calls = [trainer.trainings.resume(task_id) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers.count(None) == 1
        await trainer.ended(task_id)
        assert await read(JobRow.objects.count) == 2


async def test_a_task_can_not_be_resumed_while_another_trains_on_its_folder(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        failed = await trainer.start(tmp_path / "p", "t.fail('no')")
        await trainer.ended(failed)
        other = await trainer.start(tmp_path / "p", WAITS)
        with pytest.raises(FolderInUse, match=f"Task {other} is already training"):
            await trainer.trainings.resume(failed)


# --- the server stops and starts again


async def test_the_next_server_continues_with_what_trained_and_what_waited_in_the_same_order(
    database: Path, tmp_path: Path
) -> None:
    projects = [tmp_path / name for name in "abc"]
    async with open_trainer(database) as trainer:
        tasks = [await trainer.start(project, WAITS) for project in projects]
        await begun(projects[0])
    assert await trainer.states(*tasks) == ["queued"] * 3
    row = await trainer.row(tasks[0])
    assert (row.message, row.worker, row.job.attempts) == ("waiting, since the server was stopped", "", 0)
    async with open_trainer(database) as trainer:
        for number, project in enumerate(projects):
            await begun(project)
            assert (await trainer.states(*tasks))[number:] == ["running"] + ["queued"] * (2 - number)
            let_go(project)
        assert await trainer.ended(*tasks) == ["succeeded"] * 3
    row = await trainer.row(tasks[0])
    assert (row.job.attempts, row.job.number) == (1, 0), "a stop of the server is no attempt"


async def test_a_task_that_trained_when_the_server_was_killed_continues_unless_that_happens_too_often(
    database: Path, tmp_path: Path
) -> None:
    project = tmp_path / "p"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project, WAITS)
        await begun(project)
    for _ in range(2):
        await as_if_killed(trainer, task_id)
        async with open_trainer(database) as trainer:
            await begun(project)
            assert await trainer.states(task_id) == ["running"]
    await as_if_killed(trainer, task_id)
    async with open_trainer(database) as trainer:
        assert await trainer.ended(task_id) == ["lost"]
        assert "The server ended again and again while this task ran" in str((await error(trainer, task_id))["message"])


async def test_a_stopping_server_starts_no_more_tasks(database: Path, tmp_path: Path) -> None:
    projects = [tmp_path / name for name in "ab"]
    async with open_trainer(database) as trainer:
        for project in projects:
            await trainer.start(project, WAITS)
        await begun(projects[0])
        await trainer.trainings.close()
        assert not (projects[1] / "begun").exists()
        assert trainer.trainings.running == []


# --- a database that fails


async def test_an_end_that_can_not_be_recorded_is_recorded_when_the_database_is_back(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "RECORD_AGAIN_S", 0.01)
    project = tmp_path / "p"
    async with open_trainer(database) as trainer:
        task_id = await trainer.start(project, WAITS)
        await begun(project)
        async with locked(database, trainer.journal):
            let_go(project)
            await until(lambda: f"task {task_id} waits until it can be recorded" in caplog.text)
            assert await trainer.states(task_id) == ["running"]
        assert await trainer.ended(task_id) == ["succeeded"]


async def test_a_task_that_can_not_be_recorded_is_refused_and_leaves_nothing(database: Path, tmp_path: Path) -> None:
    async with open_trainer(database) as trainer:
        async with locked(database, trainer.journal):
            with pytest.raises(Unavailable, match="locked"):
                await trainer.start(tmp_path / "p")
        assert await trainer.rows() == []
        assert list((database.parent / "training").iterdir()) == []
        assert await trainer.ended(await trainer.start(tmp_path / "p")) == ["succeeded"]
