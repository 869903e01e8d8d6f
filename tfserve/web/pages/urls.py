"""The URLs of the pages."""

from __future__ import annotations

from django.urls import path

from tfserve.web.pages import views

urlpatterns = [
    path("", views.status, name="status"),
    path("pages/jobs/<int:job_id>/", views.job, name="job"),
    path("pages/events", views.events, name="events"),
]
