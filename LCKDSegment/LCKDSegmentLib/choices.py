"""What the user has chosen by hand, in the module's parameter node, so that a saved scene keeps it."""

import slicer

from lckd.anatomy import MODALITIES

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
        by_user = [name for name in MODALITIES if self._parameters.GetParameter(f"{name}.ByUser") == BY_USER]
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
        member = next((node.GetID() for node in nodes if node and node is not going), None)
        if member:
            self._parameters.SetParameter(STUDY, CHOSEN)
            self._parameters.SetNodeReferenceID(STUDY, member)

    def _keep(self, modality, node):
        if node is not self.volume(modality):
            self._parameters.SetNodeReferenceID(modality, node.GetID() if node else None)
