"""What the user has chosen by hand, in the module's parameter node, so that a saved scene keeps it."""

import slicer

from lckd.anatomy import MODALITIES

from .scene import in_scene

STUDY = "Study"  # the parameter that says that a study was chosen, and the reference to one of its volumes
CHOSEN, BY_USER = "chosen", "true"


class Choices:
    """The volumes and the study that the user has set. The other slots' volumes are kept beside them.

    Args:
        parameters: a vtkMRMLScriptedModuleNode.
    """

    def __init__(self, parameters):
        self._parameters = parameters

    @property
    def study(self):
        """One of the chosen study's volume nodes, or None."""
        return self._parameters.GetNodeReference(STUDY)

    def volume(self, modality):
        """The volume node in a slot, or None."""
        return self._parameters.GetNodeReference(modality)

    def fill(self, proposal):
        """Give every slot that the user has not set what the proposal has for it; returns modality -> node or None."""
        if self.study is None and self._parameters.GetParameter(STUDY) == CHOSEN:  # its volumes are gone
            self.forget()
        by_user = [name for name in MODALITIES if self._by_user(name)]
        slots = {name: self.volume(name) for name in by_user}
        for name in MODALITIES:
            if name not in by_user:
                node = proposal.nodes.get(name)
                slots[name] = None if any(node is slots[other] for other in by_user) else node
                self._keep(name, slots[name])
        return slots

    def choose(self, modality, node):
        """The user has put a volume into a slot, or emptied it."""
        self._parameters.SetParameter(f"{modality}.ByUser", BY_USER)
        self._keep(modality, node)

    def kept(self):
        """What the user has set, to be restored: modality -> node, and a volume of the study; None where nothing is."""
        by_user = {name: self.volume(name) for name in MODALITIES if self._by_user(name)}
        return (by_user, self.study) if by_user or self.study else None

    def restore(self, kept):
        """Set again what ``kept`` gave, whatever has taken its place."""
        by_user, study = kept
        self.forget()
        for name, node in by_user.items():
            if node is None or in_scene(node):
                self.choose(name, node)
        self._keep_study_of(study)

    def release(self, modality):
        """Let the scene fill this slot again."""
        self._parameters.UnsetParameter(f"{modality}.ByUser")

    def forget(self):
        """Let the scene choose the study and fill all slots."""
        for name in MODALITIES:
            self.release(name)
        self._parameters.UnsetParameter(STUDY)
        self._parameters.SetNodeReferenceID(STUDY, None)

    def keep_study(self, key, proposal, going=None):
        """Stay with this study whatever is loaded next: known by one of its volumes, as keys may change on loading.

        Args:
            going: a volume node that is about to leave the scene.
        """
        nodes = (slicer.mrmlScene.GetNodeByID(node_id) for node_id, of in proposal.study_of.items() if of == key)
        self._keep_study_of(next((node for node in nodes if node and node is not going), None))

    def _keep_study_of(self, member):
        if in_scene(member):
            self._parameters.SetParameter(STUDY, CHOSEN)
            self._parameters.SetNodeReferenceID(STUDY, member.GetID())

    def _by_user(self, name):
        return self._parameters.GetParameter(f"{name}.ByUser") == BY_USER

    def _keep(self, modality, node):
        if node is not self.volume(modality):
            self._parameters.SetNodeReferenceID(modality, node.GetID() if node else None)
