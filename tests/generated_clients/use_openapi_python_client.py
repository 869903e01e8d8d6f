"""The whole flow with a client that openapi-python-client has generated as the package `generated`.

Arguments: address of the server, folder to train on, model file, JPEG file.
"""

import sys
from pathlib import Path

from generated import Client
from generated.api.jobs import push_job
from generated.api.models import deploy_model
from generated.api.training import get_task, read_task_output, start_task
from generated.api.v1 import predict_v1_model
from generated.api.workspaces import create_workspace, destroy_workspace
from generated.models import (
    CreateTask,
    CreateTaskParameters,
    CreateWorkspace,
    Deploy,
    DestroyWorkspace,
    PredictRequest,
    PredictV1ModelFilesBody,
    PushJob,
    PushJobType,
)
from generated.models.error import Error
from generated.types import File

url, project, model, photo = sys.argv[1:]
client = Client(url, timeout=300)


def checked(response):
    if response is None or isinstance(response, Error):
        raise SystemExit(f"refused: {response}")
    return response


parameters = CreateTaskParameters.from_dict(
    {"epochs": 1, "exports": "saved_model", "backbone": "compact", "effort": "fast"}
)
new = CreateTask(user_id="u", project_id="p", project_dir=project, train_type="classification", parameters=parameters)
task = checked(start_task.sync(client=client, body=new))

name = checked(create_workspace.sync(client=client, body=CreateWorkspace(name="python"))).result
job = checked(
    push_job.sync(client=client, body=PushJob(name=name, job="x = 6 * 7; print(x)", type_=PushJobType(1), timeout=60))
).result
assert (job.finish, job.result, job.stdout, job.variable["x"]) == (True, True, "42\n", 42), job

deployed = checked(deploy_model.sync(client=client, body=Deploy(name=name, path=model, timeout=60))).result
assert deployed.result is True, deployed
predicted = checked(predict_v1_model.sync(name, client=client, body=PredictRequest(instances=[[1.0, 2.0]])))
assert predicted.predictions == [[2.5, 3.0]], predicted

events = client.with_headers({"Accept": "text/event-stream"})
assert "event: end" in checked(read_task_output.sync(task.task_id, client=events))
done = checked(get_task.sync(task.task_id, client=client))
assert done.state == "done", done
deployed = checked(deploy_model.sync(client=client, body=Deploy(name=name, path=done.model_path, timeout=60))).result
assert deployed.result is True, deployed
with Path(photo).open("rb") as file:
    body = PredictV1ModelFilesBody(file=File(file, "photo.jpg", "image/jpeg"))
    image = checked(predict_v1_model.sync(name, client=client, body=body))
assert image.predictions[0]["label"] in ("one", "zero"), image

refused = predict_v1_model.sync("none", client=client, body=PredictRequest(instances=[]))
assert isinstance(refused, Error), refused
assert "Servable not found" in refused.error, refused
checked(destroy_workspace.sync(client=client, body=DestroyWorkspace(name=name)))
print("all done")
