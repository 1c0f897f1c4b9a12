"""Offscreen pictures of slices and surfaces."""

import numpy as np
import pytest
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from host import views
from synthetic import CENTRE


def pixels(image):
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1]


@pytest.mark.parametrize("name", ["Red", "Yellow", "Green"])
def test_slice_is_centred_and_coloured(host, ball, name):
    volume, _ = ball
    host.sceneHost.sliceLogics[name].GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    image = pixels(views.sliceImage(host.sceneHost, name, CENTRE, 200)).astype(int)
    red, green, blue = image[100, 100]
    assert red > green + 20  # Necrosis
    assert red > blue + 20
    grey = np.abs(image - image.mean(axis=2, keepdims=True)).max(axis=2) < 3
    assert (grey & (image[:, :, 0] > 60)).sum() > 3000  # the head around it, not darkened by the overlay


def test_montage_shows_surfaces(host, ball, tmp_path):
    volume, node = ball
    node.CreateClosedSurfaceRepresentation()
    path = tmp_path / "views.png"
    views.montage(host.sceneHost, path, volume, centre=CENTRE, size=200)
    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    threeD = pixels(reader.GetOutput())[:200, 200:].astype(int)
    assert reader.GetOutput().GetDimensions()[:2] == (400, 400)
    _, green, blue = threeD[100, 100]
    assert green > blue  # Edema in front of the bluish background
    host.scene.Clear(False)
    views.montage(host.sceneHost, path, size=100)  # an empty scene is no error
