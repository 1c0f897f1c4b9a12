# What Slicer generates for its own packaging is not needed here.
