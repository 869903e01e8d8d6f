"""The chaos run: clients with journals, a seeded killer, and a checker that reads the journals afterwards."""
