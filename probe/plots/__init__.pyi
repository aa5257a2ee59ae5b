from .animation import animate_plane as animate_plane
from .chaos.maps import perturbation_map as perturbation_map
from .chaos.matrix import kernel_distances as kernel_distances
from .chaos.radius import cone_radius as cone_radius, kernel_norm as kernel_norm
from .chaos.windows import growth as growth
from .distances import alignment as alignment
from .lines import curves as curves
from .measures import measure as measure
from .modes.counts import mode_classes as mode_classes
from .modes.flow import spectral_flow as spectral_flow
from .modes.trajectories import mode_trajectories as mode_trajectories
from .page import overview as overview, panel as panel
from .plane import information_plane as information_plane, information_planes as information_planes
from .plane_data import plane_distance as plane_distance
from .regions.changes import region_changes as region_changes
from .regions.circuit import circuit as circuit
from .regions.mechanisms import mechanisms as mechanisms
from .regions.partition import partition as partition, partitions as partitions
from .shading import phases as phases
from .strip import phase_strip as phase_strip

__all__: list[str]
