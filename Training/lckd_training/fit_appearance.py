"""Fit the table of ``lckd.appearance``: which sequence an image is, by its brightnesses, from labelled BraTS cases.

    python -m lckd_training.fit_appearance DATA

prints the table and how often it is right on cases it was not fitted on, for each volume by itself and for the volumes
of a case together, each sequence at most once.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lckd.anatomy import MODALITIES
from lckd.appearance import features
from lckd.studies import one_each

from .data import read_channel
from .layouts import find_cases

FOLDS, STRENGTH = 11, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of BraTS cases")
    rows, truth, cases = [], [], []
    for number, case in enumerate(find_cases(parser.parse_args().data)):
        for modality, channel in case.files.items():
            if seen := features(read_channel(channel)):
                rows.append(seen)
                truth.append(MODALITIES.index(modality))
                cases.append(number)
    names = list(rows[0])
    values = np.clip([[row[name] for name in names] for row in rows], 0, 4)
    truth, cases = np.array(truth), np.array(cases)
    single, together = cross_validate(values, truth, cases)
    print(f"# {len(rows)} volumes, {FOLDS} folds by case: {single:.1%} alone, {together:.1%} with their study")
    scaler, model = fit(values, truth)
    for index, name in enumerate(names):
        weights = ", ".join(f"{weight:.3f}" for weight in model.coef_[:, index])
        print(f'    "{name}": ({scaler.mean_[index]:.3f}, {scaler.scale_[index]:.3f}, {weights}),')
    print(f'    "intercept": ({", ".join(f"{value:.3f}" for value in model.intercept_)}),')


def fit(values: np.ndarray, truth: np.ndarray) -> tuple[StandardScaler, LogisticRegression]:
    scaler = StandardScaler().fit(values)
    return scaler, LogisticRegression(C=STRENGTH, max_iter=2000).fit(scaler.transform(values), truth)


def cross_validate(values: np.ndarray, truth: np.ndarray, cases: np.ndarray) -> tuple[float, float]:
    """The share of volumes told right: each by itself, and the volumes of a case together."""
    shares = np.zeros((len(truth), len(MODALITIES)))
    for fold in range(FOLDS):
        held = cases % FOLDS == fold
        if not held.any():
            continue
        scaler, model = fit(values[~held], truth[~held])
        shares[held] = model.predict_proba(scaler.transform(values[held]))
    right = 0
    for case in np.unique(cases):
        members = np.flatnonzero(cases == case)
        told = one_each([dict(zip(MODALITIES, shares[m], strict=True)) for m in members])
        right += sum(MODALITIES[truth[m]] == name for m, name in zip(members, told, strict=True))
    return float((shares.argmax(axis=1) == truth).mean()), right / len(truth)


if __name__ == "__main__":
    main()
