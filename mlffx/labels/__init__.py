"""Labels of our own: energies of supercells from DFT to CCSD(T) by PySCF, checkpointed, and written for the reader."""
