"""What a visitor of a metric Space can try with one click: two tables of predictions, as they would be pasted."""

CAPITALS = (
    """\
id,question,prediction,reference
1,Capital of France?,Paris,Paris
2,Capital of Switzerland?,Bern,Bern
3,Capital of Austria?,Graz,Vienna
4,Capital of Italy?,Rome,Rome
5,Capital of Norway?,Oslo,Oslo
6,Capital of Latvia?,Oslo,Riga
7,Capital of Spain?,Madrid,Madrid
8,Capital of Turkey?,Istanbul,Ankara
""",
    """\
id,prediction,reference
1,Paris,Paris
2,Zurich,Bern
3,Vienna,Vienna
4,Rome,Rome
5,Bergen,Oslo
6,Tallinn,Riga
7,Madrid,Madrid
8,Ankara,Ankara
""",
)
# The second model answers in another order, and one question not at all.
CLASSES = (
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 1, "reference": 1}
{"id": "c", "prediction": 0, "reference": 2}
{"id": "d", "prediction": 2, "reference": 2}
""",
    """\
{"id": "d", "prediction": 2, "reference": 2}
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": null, "reference": 1}
{"id": "c", "prediction": 2, "reference": 2}
""",
)
TRAFFIC = (
    """\
id,prediction
1,refund
2,refund
3,shipping
4,other
5,shipping
6,refund
7,invoice
8,other
""",
    """\
id,prediction
1,refund
2,invoice
3,shipping
4,other
5,shipping
6,refund
7,invoice
8,shipping
""",
)
ERRORS = (
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 0, "reference": 1}
{"id": "c", "prediction": 2, "reference": 1}
{"id": "d", "prediction": 1, "reference": 1}
""",
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 0, "reference": 1}
{"id": "c", "prediction": 0, "reference": 1}
{"id": "d", "prediction": 2, "reference": 1}
""",
)
SUMMARIES = (
    """\
id,prediction,reference
1,Amanda baked cookies.,Amanda baked cookies for Jerry.
2,Tom is late.,Tom will be late for lunch.
3,They meet at the station.,They meet at the station at six.
4,Rita lost her keys.,Rita lost her keys again.
""",
    """\
id,prediction,reference
1,Amanda baked cookies for Jerry.,Amanda baked cookies for Jerry.
2,Tom has lunch.,Tom will be late for lunch.
3,They meet at six.,They meet at the station at six.
4,Rita lost her keys.,Rita lost her keys again.
""",
)
GRADES = (
    """\
{"id": "a", "score": 0.71}
{"id": "b", "score": 0.40}
{"id": "c", "score": 0.52}
{"id": "d", "score": 0.90}
""",
    """\
{"id": "a", "score": 0.70}
{"id": "b", "score": 0.52}
{"id": "c", "score": 0.30}
{"id": "d", "score": 0.90}
""",
)
CLAIMS = (
    """\
id,question,prediction,reference
1,Is it said that the hotel has a pool?,yes,yes
2,Is it said that breakfast is free?,yes,yes
3,Is it said that dogs may come?,yes,yes
4,Is it said that the beach is near?,no,yes
5,Is it said that there is a lift?,no,no
6,Is it said that cards are taken?,yes,no
7,Is it said that rooms have balconies?,no,no
8,Is it said that parking is free?,yes,no
""",
    """\
id,prediction,reference
1,yes,yes
2,no,yes
3,no,yes
4,no,yes
5,no,no
6,no,no
7,no,no
8,yes,no
""",
)
SUPPORTED = (
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 1, "reference": 1}
{"id": "c", "prediction": 0, "reference": 0}
{"id": "d", "prediction": 0, "reference": 0}
""",
    """\
{"id": "a", "prediction": 1, "reference": 1}
{"id": "b", "prediction": 0, "reference": 1}
{"id": "c", "prediction": null, "reference": 0}
{"id": "d", "prediction": 0, "reference": 0}
""",
)
