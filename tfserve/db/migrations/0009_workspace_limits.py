from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("control", "0008_reported_state")]

    operations = [migrations.AddField(model_name="workspace", name="limits", field=models.JSONField(default=dict))]
