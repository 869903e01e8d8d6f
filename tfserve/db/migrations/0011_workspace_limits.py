from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("control", "0010_declared_models")]

    operations = [migrations.AddField(model_name="workspace", name="limits", field=models.JSONField(default=dict))]
