from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("control", "0007_training_dataset")]

    operations = [migrations.RenameField(model_name="trainingtask", old_name="told", new_name="reported_state")]
