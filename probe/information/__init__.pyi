from .binned import (
    BinnedInformation as BinnedInformation,
    binned_information as binned_information,
    principal_components as principal_components,
    row_codes as row_codes,
)
from .bins import (
    early_code_bins as early_code_bins,
    equal_bins as equal_bins,
    quantile_bins as quantile_bins,
    width_bins as width_bins,
)
from .channel import (
    ChannelEstimate as ChannelEstimate,
    ChannelInformation as ChannelInformation,
    channel_information as channel_information,
)
from .channel_loss import (
    channel_bits as channel_bits,
    ib_objective as ib_objective,
)
from .decodable import (
    DecodableInformation as DecodableInformation,
    decodable_information as decodable_information,
)
from .discrete import (
    discrete_entropy as discrete_entropy,
    discrete_information as discrete_information,
    label_codes as label_codes,
)
from .neighbours import (
    NeighbourInformation as NeighbourInformation,
    ksg_information as ksg_information,
    ross_information as ross_information,
)
from .noise import calibrated_noise as calibrated_noise
from .rate_distortion import (
    CodingRate as CodingRate,
    coding_rate as coding_rate,
)
from .renyi import (
    RenyiInformation as RenyiInformation,
    gaussian_kernel as gaussian_kernel,
    matrix_entropy as matrix_entropy,
    renyi_information as renyi_information,
)
from .spread import (
    RepresentationGeometry as RepresentationGeometry,
    fano_bound as fano_bound,
    representation_geometry as representation_geometry,
)
from .weight_histogram import weight_histogram_entropy as weight_histogram_entropy

__all__: list[str]
