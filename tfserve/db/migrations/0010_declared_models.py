from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("control", "0009_access")]

    operations = [
        migrations.AddField(model_name="deployment", name="declared", field=models.BooleanField(default=False)),
        migrations.CreateModel(
            name="Declared",
            fields=[
                ("source", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("content", models.TextField()),
                ("accepted_at", models.DateTimeField(auto_now=True)),
            ],
        ),
    ]
