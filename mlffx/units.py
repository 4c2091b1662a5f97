"""Units: eV, A, amu, e inside; THz in phonopy; cm-1 wherever a person reads."""

from __future__ import annotations

THZ_TO_CM1 = 33.35640951981521  # 1e12 / (100 c), c = 299792458 m/s exactly
THZ_TO_MEV = 4.135667696923859  # h in meV ps, exact in the 2019 SI
COULOMB_EV_A = 14.399645478425668  # e^2 / (4 pi eps0) in eV A, CODATA 2018
EV_A3_TO_GPA = 160.2176634
KB_EV = 8.617333262145179e-05  # Boltzmann constant, eV/K
AMU_A2_FS2_TO_EV = 103.6426965638  # 1 amu (A/fs)^2 in eV
