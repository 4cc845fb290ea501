"""The generators that a job may name, and what each costs: their events follow from spec and shape.

A spec says how a synthetic table is made of a site's records; `noise_multiplier` is the one number
that pricing looks for. The default is the mixture; the others are there for what it cannot do, or
to be compared with it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT
from sordino_protocols.privacy import (
    Event,
    PrivacyUnit,
)
from sordino_protocols.synthesis.marginals import Marginal, event_of, marginals_of
from sordino_protocols.synthesis.mst import TreePlan
from sordino_protocols.synthesis.nade import NadePlan
from sordino_protocols.synthesis.positions import flattened
from sordino_protocols.synthesis.privbayes import NetworkPlan
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.vae import AutoencoderPlan

Share = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=4_096)]
ClippingNorm = Annotated[float, Field(ge=1e-9, le=1e6, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
LearningRate = Annotated[float, Field(gt=0, le=1e3, allow_inf_nan=False)]


class MixtureSpec(BaseModel):
    """A mixture of products, fitted to noisy one- and two-way marginals: the default.

    Attributes:
        components: of the mixture.
        fine_share: share of the privacy, as mu squared, that the fine one-way marginals get.
        label_weight: how much more of it a pair with the label gets than one without.
    """

    model_config = STRICT

    kind: Literal["mixture"] = "mixture"
    components: Annotated[int, Field(ge=1, le=2_000)] = 300
    fine_share: Share = 0.15
    label_weight: Annotated[float, Field(ge=1, le=100)] = 4.0

    def marginals(self, shape: DomainShape, noise_multiplier: float) -> tuple[Marginal, ...]:
        """What is measured."""
        return marginals_of(
            shape,
            noise_multiplier=noise_multiplier,
            fine_share=self.fine_share,
            label_weight=self.label_weight,
        )

    def event(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> Event:
        """What one release costs."""
        return event_of(self.marginals(shape, noise_multiplier), unit)


class MstSpec(BaseModel):
    """A maximum spanning tree of two-way marginals (McKenna, Miklau & Sheldon 2021)."""

    model_config = STRICT

    kind: Literal["mst"]

    def plan(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> TreePlan:
        """What runs, and with which noise."""
        return TreePlan(len(flattened(shape).columns), noise_multiplier, unit)

    def event(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> Event:
        """What one release costs."""
        return self.plan(shape, noise_multiplier, unit).event


class PrivBayesSpec(BaseModel):
    """A Bayesian network of bounded degree (Zhang et al. 2017).

    Attributes:
        degree: most parents of a column.
    """

    model_config = STRICT

    kind: Literal["privbayes"]
    degree: Annotated[int, Field(ge=1, le=3)] = 2

    def plan(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> NetworkPlan:
        """What runs, and with which noise."""
        columns = len(flattened(shape).columns)
        return NetworkPlan(columns, self.degree, noise_multiplier, unit)

    def event(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> Event:
        """What one release costs."""
        return self.plan(shape, noise_multiplier, unit).event


class _Trained(BaseModel):
    """A network that a site trains alone with DP-SGD, and samples from."""

    model_config = STRICT

    hidden: Width = 64
    sampling_rate: Rate = 0.01
    steps: Steps = 500
    clipping_norm: ClippingNorm = 1.0
    learning_rate: LearningRate = 0.1


class NadeSpec(_Trained):
    """A neural autoregressive distribution estimator (Uria et al. 2016), trained with DP-SGD.

    Attributes:
        fine_share: share of the privacy, as mu squared, that the fine one-way marginals get.
    """

    kind: Literal["nade"]
    sampling_rate: Rate = 0.05
    steps: Steps = 100
    clipping_norm: ClippingNorm = 4.0
    learning_rate: LearningRate = 0.06
    fine_share: Share = 0.2

    def plan(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> NadePlan:
        """What runs, and with which noise."""
        return NadePlan(
            shape=shape,
            fine_share=self.fine_share,
            sampling_rate=self.sampling_rate,
            steps=self.steps,
            noise_multiplier=noise_multiplier,
            unit=unit,
        )

    def event(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> Event:
        """What one release costs."""
        return self.plan(shape, noise_multiplier, unit).event


class VaeSpec(_Trained):
    """Variational autoencoders of clusters of records (Acs et al. 2018), trained with DP-SGD.

    Attributes:
        latent: width of the code.
        clusters: how many there are, each with a decoder of its own.
        cluster_share: share of the privacy that finding the clusters gets.
    """

    kind: Literal["vae"]
    sampling_rate: Rate = 0.03
    steps: Steps = 400
    learning_rate: LearningRate = 0.01
    latent: Width = 4
    clusters: Annotated[int, Field(ge=1, le=100)] = 8
    cluster_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1

    def plan(
        self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit
    ) -> AutoencoderPlan:
        """What runs, and with which noise."""
        return AutoencoderPlan(
            columns=len(flattened(shape).columns),
            clusters=self.clusters,
            cluster_share=self.cluster_share,
            sampling_rate=self.sampling_rate,
            steps=self.steps,
            noise_multiplier=noise_multiplier,
            unit=unit,
        )

    def event(self, shape: DomainShape, noise_multiplier: float, unit: PrivacyUnit) -> Event:
        """What one release costs."""
        return self.plan(shape, noise_multiplier, unit).event


GeneratorSpec = Annotated[
    MixtureSpec | MstSpec | PrivBayesSpec | NadeSpec | VaeSpec, Field(discriminator="kind")
]
