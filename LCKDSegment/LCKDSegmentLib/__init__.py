"""The Slicer side of LCKDSegment: MRML scene to study, child process, results to nodes, parts of the panel.

Scene and logics come in as arguments. Qt appears only in ``panel``; nothing that Slicer does not ship is imported at
file scope, so the module loads before its Python packages are installed.
"""
