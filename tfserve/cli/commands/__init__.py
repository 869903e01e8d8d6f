"""The commands of `tfserve`, one file per group. `tfserve.cli.main` lists them and imports the one that runs."""
