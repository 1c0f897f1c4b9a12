"""The LCKDSegment runtime: find the MR sequences of a study and segment the glioma from whichever are there.

Research use only; not a medical device. The way of a study: volumes -> study -> prepared array -> probabilities ->
labels on the reference grid -> results. This package never imports slicer, qt, ctk, vtk or the Training package, and
torch only where a network runs, so that ``lckd sequences`` answers at once.
"""

__version__ = "0.1.0"
