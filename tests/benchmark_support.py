import dataclasses


def trial(values, accuracy, record):
    """Records of one variant, whose return is ``values`` whatever lambda is."""
    losses = [
        [{"valid_ce": 2.0, "valid_kl": 0.0, "train_ce": 2.0, "train_kl": 0.0}] for _ in values
    ]
    for line, value in zip(losses, values, strict=True):
        line.append({**line[0], "valid_ce": 2.0 - value, "train_ce": 2.0 + value})
    return [
        dataclasses.replace(record, losses=line, final={"accuracy": a, "retention": 0.5})
        for line, a in zip(losses, accuracy, strict=True)
    ]
