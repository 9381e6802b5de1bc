"""The catalogue of molecule data sets: names, sources, licences, published counts."""

from __future__ import annotations

from stemlib.data.molecules import ChEMBL, ChEMBLActivities, MoleculeBenchmark
from stemlib.data.registry import Benchmark


def _moleculenet(
    name: str,
    file: str,
    description: str,
    staged: str = "https://github.com/GLambard/Molecules_Dataset_Collection",
    values: bool = False,
    **statistics: int,
) -> MoleculeBenchmark:
    return MoleculeBenchmark(
        name=name,
        kind="graph",
        source=f"https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/{file} (checksum: the copy in {staged})",
        licence="MIT",
        description=description,
        folder=f"MoleculeNet/{name}/raw",
        values=values,
        statistics=statistics,
    )


DEEPCHEM = "https://github.com/deepchem/deepchem"

MOLECULE_BENCHMARKS: list[Benchmark] = [
    _moleculenet(
        "hiv",
        "HIV.csv",
        "The label: whether it inhibits the replication of HIV.",
        rows=41127,
        molecules=41120,
        tasks=1,
        labels=41120,
        positives=1443,
    ),
    _moleculenet(
        "pcba",
        "pcba.csv.gz",
        "The labels: activity in 128 PubChem assays.",
        rows=437929,
        tasks=128,
    ),
    _moleculenet(
        "muv",
        "muv.csv.gz",
        "The labels: activity in 17 PubChem assays, few of them known.",
        DEEPCHEM,
        rows=93087,
        molecules=93087,
        tasks=17,
        labels=249886,
        positives=489,
    ),
    _moleculenet(
        "tox21",
        "tox21.csv.gz",
        "The labels: 12 kinds of toxicity.",
        rows=7831,
        molecules=7823,
        tasks=12,
        labels=77864,
        positives=5858,
    ),
    _moleculenet(
        "toxcast",
        "toxcast_data.csv.gz",
        "The labels: 617 kinds of toxicity.",
        DEEPCHEM,
        rows=8615,
        molecules=8597,
        tasks=617,
        labels=1534076,
    ),
    _moleculenet(
        "sider", "sider.csv.gz", "The labels: 27 kinds of side effect.", rows=1427, molecules=1427, tasks=27
    ),
    _moleculenet(
        "clintox",
        "clintox.csv.gz",
        "The labels: approved, failed for toxicity.",
        rows=1484,
        molecules=1480,
        tasks=2,
    ),
    _moleculenet(
        "bace",
        "bace.csv",
        "The label: whether it inhibits beta-secretase 1.",
        rows=1513,
        molecules=1513,
        tasks=1,
        positives=691,
    ),
    _moleculenet(
        "bbbp",
        "BBBP.csv",
        "The label: whether it passes the blood-brain barrier.",
        rows=2050,
        molecules=2039,
        tasks=1,
        positives=1560,
    ),
    _moleculenet(
        "esol",
        "delaney-processed.csv",
        "The label: the logarithm of its solubility in water, in mol per litre.",
        values=True,
        rows=1128,
        molecules=1128,
        tasks=1,
        labels=1128,
    ),
    _moleculenet(
        "lipo",
        "Lipophilicity.csv",
        "The label: the logarithm of its distribution between octanol and water at pH 7.4.",
        values=True,
        rows=4200,
        molecules=4200,
        tasks=1,
        labels=4200,
    ),
    ChEMBLActivities(
        name="chembl-activities",
        kind="graph",
        source="https://github.com/deepchem/deepchem (datasets/chembl_5thresh.csv.gz, and its split by year)",
        licence="MIT (the files), CC BY-SA 3.0 (ChEMBL)",
        description="The labels: activity on 691 targets, minus the logarithm of a concentration, few of them known.",
        folder="other/chembl_5thresh",
        values=True,
        statistics={"rows": 23871, "molecules": 23871, "tasks": 691, "labels": 91047},
    ),
    *(
        ChEMBL(
            name=name,
            kind="graph",
            source="ChEMBL samples of https://github.com/greglandrum/rdkit_blog, gathered as canonical SMILES",
            licence="CC BY-SA 3.0 (ChEMBL's)",
            description="No labels: for pretraining. Some thousand molecules stand in the labelled sets as well "
            "(3,005 in HIV, 13,186 in MUV).",
            folder="other/chembl_smiles",
            statistics={"rows": count or 349564},
            count=count,
        )
        for name, count in (("chembl", None), ("chembl-10k", 10_000))
    ),
]
