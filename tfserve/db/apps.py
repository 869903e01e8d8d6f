from django.apps import AppConfig

from tfserve.db.postgresql_text import replace_nul_characters


class ControlConfig(AppConfig):
    name = "tfserve.db"
    label = "control"
    verbose_name = "TFserve"

    def ready(self) -> None:
        replace_nul_characters()
