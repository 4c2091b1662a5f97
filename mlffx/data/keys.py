"""The vocabulary of graphs and of what potentials return. Every tensor that travels between packages is named here.

| key | shape | unit | meaning |
|---|---|---|---|
| POSITIONS | [n_atoms, 3] | A, float64 | Cartesian positions, not wrapped |
| NUMBERS | [n_atoms] | int64 | atomic numbers |
| CELL | [n_graphs, 3, 3] | A, float64 | rows are lattice vectors |
| EDGE_INDEX | [2, n_edges] | int64 | row 0: neighbour j, row 1: centre i; sorted by centre |
| EDGE_IMAGE | [n_edges, 3] | float64 integers | lattice translation of the neighbour |
| BATCH | [n_atoms] | int64 | graph each atom belongs to |
| SITES | [n_atoms, 3] | A, float64 | ideal lattice positions in the order of the atoms (only for crystals) |
| SITE_TYPE | [n_atoms] | int64 | atom of the primitive cell each site repeats (only for crystals) |
| ENERGY | [n_graphs] | eV, float64 | total energy |
| FORCES | [n_atoms, 3] | eV/A | minus the gradient |
| STRESS | [n_graphs, 3, 3] | eV/A^3 | (1/V) dE/d(strain); positive under tension, as in ASE |
| ATOMIC_ENERGY | [n_atoms] | model units | what an architecture returns, before scaling |
| FEATURES | [n_atoms, n_features] | - | invariant features of each atom |
| CHARGES | [n_atoms] | e | per-atom charges, summing to zero in each graph |
| DIPOLE | [n_graphs, 3] | e A | sum of charge times position; defined up to lattice vectors times charges |
| PARTS | dict name -> [n_graphs] | eV | the terms whose sum is ENERGY |
"""

POSITIONS = "pos"
NUMBERS = "z"
CELL = "cell"
EDGE_INDEX = "edge_index"
EDGE_IMAGE = "edge_image"
BATCH = "batch"
SITES = "sites"
SITE_TYPE = "site_type"

ENERGY = "energy"
FORCES = "forces"
STRESS = "stress"
ATOMIC_ENERGY = "atomic_energy"
FEATURES = "features"
CHARGES = "charges"
DIPOLE = "dipole"
PARTS = "parts"
