"""The URLs of the pages."""

from __future__ import annotations

from django.urls import path

from tfserve.web.access.authentication import DOCS
from tfserve.web.pages import (
    api_page,
    events,
    jobs,
    log_in,
    model_pages,
    nodes,
    overview,
    settings_page,
    token_pages,
    training_pages,
    workspaces,
)

urlpatterns = [
    *(path(each.removeprefix("/"), api_page.reference) for each in DOCS),
    path("", overview.overview, name="overview"),
    path("pages/workspaces/", workspaces.workspaces, name="workspaces"),
    path("pages/workspaces/<str:name>/", workspaces.workspace, name="workspace"),
    path("pages/jobs/", jobs.jobs, name="jobs"),
    path("pages/nodes/", nodes.nodes, name="nodes"),
    path("pages/models/", model_pages.model_list, name="models"),
    path("pages/models/<str:name>/", model_pages.model, name="model"),
    path("pages/models/<str:name>/samples/<int:number>", model_pages.sample, name="model_sample"),
    path("pages/models/<str:name>/classes.json", model_pages.classes, name="model_classes"),
    path("pages/models/<str:name>/request-<str:protocol>.json", model_pages.example, name="model_example"),
    path("pages/trainings/", training_pages.training_list, name="trainings"),
    path("pages/trainings/new/", training_pages.new_training, name="new_training"),
    path("pages/trainings/<str:task_id>/", training_pages.training, name="training"),
    path("pages/trainings/<str:task_id>/readme/", training_pages.readme, name="training_readme"),
    path("pages/jobs/<int:job_id>/", jobs.job, name="job"),
    path("pages/login/", log_in.log_in, name="log_in"),
    path("pages/logout/", log_in.log_out, name="log_out"),
    path("pages/password/", log_in.set_password, name="set_password"),
    path("pages/settings/", settings_page.configuration, name="settings"),
    path("pages/settings/password/", settings_page.new_password, name="new_password"),
    path("pages/tokens/", token_pages.tokens, name="tokens"),
    path("pages/audit/", token_pages.audit, name="audit"),
    path("pages/events", events.events, name="events"),
]
