def describe():
    return {}


def validate(t, v):
    return v
