"""Train LCKD networks outside Slicer: data, modality sampling, teacher election, distillation, export.

Imports the runtime package ``lckd`` (its network, preprocessing and inference); is never imported by it.
"""
