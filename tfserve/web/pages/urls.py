"""The URLs of the pages."""

from __future__ import annotations

from django.urls import path

from tfserve.web.access.authentication import DOCS
from tfserve.web.pages import (
    api_page,
    events,
    jobs,
    log_in,
    overview,
    settings_page,
    token_pages,
    workspaces,
)

urlpatterns = [
    *(path(each.removeprefix("/"), api_page.reference) for each in DOCS),
    path("", overview.overview, name="overview"),
    path("pages/workspaces/", workspaces.workspaces, name="workspaces"),
    path("pages/workspaces/<str:name>/", workspaces.workspace, name="workspace"),
    path("pages/jobs/", jobs.jobs, name="jobs"),
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
