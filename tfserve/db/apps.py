from django.apps import AppConfig


class ControlConfig(AppConfig):
    name = "tfserve.db"
    label = "control"
    verbose_name = "TFserve"
