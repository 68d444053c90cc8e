"""Short names for the models of timm that most people mean; docs/models.md has their licences."""

ALIASES = {
    "clip": "timm:vit_base_patch32_clip_224.openai",
    "convnext": "timm:convnext_base.fb_in22k",
    "dinov2-b": "timm:vit_base_patch14_dinov2.lvd142m",
    "dinov2-s": "timm:vit_small_patch14_dinov2.lvd142m",
    "dinov3-b": "timm:vit_base_patch16_dinov3.lvd1689m",
    "dinov3-s": "timm:vit_small_patch16_dinov3.lvd1689m",
    "eva02": "timm:eva02_base_patch16_clip_224.merged2b",
    "mobileclip2": "timm:fastvit_mci2.apple_mclip2_dfndr2b",
    "siglip2-b": "timm:vit_base_patch16_siglip_224.v2_webli",
}
