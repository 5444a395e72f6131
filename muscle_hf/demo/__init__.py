"""The main job on real data that ships with the package: CLINC150 intents, two small base models, one update."""
