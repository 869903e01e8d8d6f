from django.apps import AppConfig


class ControlConfig(AppConfig):
    name = "tfserve.control"
    label = "control"
    verbose_name = "TFserve"
