import pytest
import torch

from baselines.vision import MLP, VGG, Block, ResNet, VisionTransformer


def size(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


@pytest.mark.parametrize(
    ("make", "published"),
    [  # torchvision's tables; the last two are the networks for CIFAR-10
        (lambda: ResNet(3, 1000), 11_689_512),
        (lambda: ResNet(3, 1000, blocks=(3, 4, 6, 3), bottleneck=True), 25_557_032),
        (lambda: VGG(3, 1000, hidden=(4096, 4096), side=7, dropout=0.5), 138_365_992),
        (lambda: VisionTransformer(3, 1000, 224, patch=16, width=768, heads=12), 86_567_656),
        (lambda: VGG(3, 10), 14_728_266),
        (lambda: ResNet(3, 10, 16, (3, 3, 3), stem="small"), 272_474),
    ],
)
def test_parameters_are_those_of_the_published_networks(make, published):
    assert size(make) == published


def test_a_plain_network_has_the_same_convolutions_and_no_shortcuts():
    """ResNet-50 without its four reshaping shortcuts and their batch normalisations."""
    plain = size(lambda: ResNet(3, 1000, blocks=(3, 4, 6, 3), bottleneck=True, residual=False))
    shortcuts = [(64, 256), (256, 512), (512, 1024), (1024, 2048)]
    assert plain == 25_557_032 - sum(a * b + 2 * b for a, b in shortcuts)


def test_a_block_with_silent_convolutions_is_its_shortcut():
    x = torch.randn(2, 8, 6, 6)
    for residual in (True, False):
        block = Block(8, 8, 1, bottleneck=False, residual=residual).eval()
        torch.nn.init.zeros_(block.convolutions[-1][0].weight)
        expected = x.relu() if residual else torch.zeros_like(x)
        assert torch.equal(block(x), expected)


@pytest.mark.parametrize(
    "model",
    [
        MLP(3 * 16 * 16, [8, 8], 10, batch_norm=True, dropout=0.1),
        VGG(3, 10, stages=[[4], [4, 8]]),
        ResNet(3, 10, 4, (1, 1, 1), stem="small"),
        ResNet(3, 10, 4, (1, 1), bottleneck=True, residual=False),
        VisionTransformer(3, 10, 16, width=12, depth=1),
    ],
)
def test_logits_have_one_row_an_image_and_every_parameter_is_used(model):
    logits = model(torch.randn(4, 3, 16, 16))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_resnet_is_that_of_the_transformers_library():
    library = pytest.importorskip("transformers")
    config = library.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[2, 1], layer_type="basic", num_labels=5
    )
    reference = library.ResNetForImageClassification(config).eval()
    ours = ResNet(3, 5, 4, (2, 1)).eval()
    theirs = dict(reference.named_modules())
    pairs = [(ours.stem, "resnet.embedder.embedder")]
    for index, place in enumerate(["stages.0.layers.0", "stages.0.layers.1", "stages.1.layers.0"]):
        block, where = ours.blocks[index], f"resnet.encoder.{place}"
        pairs += [(c, f"{where}.layer.{i}") for i, c in enumerate(block.convolutions)]
        if block.shortcut is not None:
            pairs.append((block.shortcut, f"{where}.shortcut"))
    for mine, name in pairs:
        torch.nn.init.uniform_(theirs[name].normalization.weight)
        mine[0].load_state_dict(theirs[name].convolution.state_dict())
        mine[1].load_state_dict(theirs[name].normalization.state_dict())
    ours.head.load_state_dict(reference.classifier[1].state_dict())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), reference(x).logits)


def test_patches_that_do_not_tile_the_image_are_refused():
    with pytest.raises(ValueError, match="do not tile"):
        VisionTransformer(3, 10, 30)
