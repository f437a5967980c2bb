"""VD4xx to VD6xx: the machine, the run, the results."""

from vitdsl.dsl.code import Code

MACHINE_CODES = (
    Code(
        "VD401",
        "file or folder missing",
        "A path of the study is not there. Relative paths start at the folder of the study.",
        "data:\n  val: {source: folder, path: ./imagnet/val}",
        "data:\n  val: {source: folder, path: ./imagenet/val}",
    ),
    Code(
        "VD402",
        "image cannot be read",
        "Files that are named as images cannot be decoded. The message lists them; remove or repair them.",
    ),
    Code(
        "VD403",
        "no images",
        "The folder is empty or holds no images. Images end in .jpg, .jpeg, .png, .webp, .bmp or .tif.",
    ),
    Code(
        "VD404",
        "labels are not the model's classes",
        """The data has another number of classes than the model has outputs, or the same ones in another order, so
        that accuracy would be meaningless. Say which classes of the model the images show with `labels:`, give the
        model `options: {num_classes: ...}` and train it, or take data with its classes.""",
    ),
    Code(
        "VD405",
        "checkpoint does not fit",
        """The names or shapes of the weights in the file are not those of the architecture. Check `arch`
        and `options`; timm's own conversions were tried.""",
        "models:\n  vit: {arch: vit_base_patch16_224, weights: {file: vit_small.safetensors}}",
        "models:\n  vit: {arch: vit_small_patch16_224, weights: {file: vit_small.safetensors}}",
    ),
    Code(
        "VD406",
        "no network for pretrained weights",
        """The weights are not in the local cache and cannot be downloaded. Run once with a network, copy
        the cache, or name a local file with `weights: {file: ...}`.""",
    ),
    Code(
        "VD407",
        "output folder not writable",
        """The results cannot be written, and a run that cannot save is not started. Choose another with
        `--out`.""",
        "vitdsl run study.yaml --out /readonly",
        "vitdsl run study.yaml --out ~/runs",
        language="shell",
    ),
    Code(
        "VD408",
        "device not available",
        "The device that was asked for is not on this machine. `--device auto` takes what there is.",
        "vitdsl run study.yaml --device cuda:7",
        "vitdsl run study.yaml --device auto",
        language="shell",
    ),
    Code(
        "VD409",
        "out of memory",
        """One condition of one model does not fit with this batch; several conditions would have been run one after the
        other. Take a smaller `batch`, fewer layers, or a larger device. `vitdsl plan` estimates the memory.""",
    ),
    Code(
        "VD410",
        "optional library missing",
        "The data source needs a library that is not installed. The message names it.",
    ),
    Code(
        "VD411",
        "data set cannot be opened",
        "timm or the library behind it refuses the data set. Check its name, root and split.",
    ),
    Code(
        "VD412",
        "stored weights damaged",
        """A file of trained weights is cut short, or does not hold what its name and the hashes in it say.
        Delete it, and the model is trained again.""",
    ),
    Code(
        "VD413",
        "plugin cannot be imported",
        """A package brings metrics, ablations or sources through the entry-point group `vitdsl.plugins`, and its
        module raises an error when it is imported. Repair the package or uninstall it; the note has its own words.""",
    ),
    Code(
        "VD414",
        "the system refused",
        """A file, folder or stream could not be read or written: the disk is full, a name is too long, a
        permission is missing, a link goes nowhere. The message has the system's own words.""",
    ),
    Code(
        "VD415",
        "run folder removed",
        """Somebody removed or moved the folder of this run while it ran, so that there is nowhere for its results.
        What image blocks gave is in the store beside it: the same command is answered from there.""",
    ),
    Code(
        "VD416",
        "weights are not finite",
        """A checkpoint holds NaN or infinite values, so that every number of the model would be NaN. It was
        saved by a training that had diverged, or is damaged. The message names the weight.""",
    ),
    Code(
        "VD417",
        "seal is not what was sealed",
        """`vitdsl seal STUDY` writes a seal beside a study (`study.yaml` has `study.seal.json`), and a run quotes
        it. The file that is there is not JSON, or is not a seal, or was changed after it was made. A run that
        cannot say what was sealed is not started: bring back the file, or remove it and run without a seal.""",
        "sed -i s/2026-11-09/2026-11-02/ study.seal.json && vitdsl run study.yaml",
        "git checkout study.seal.json && vitdsl run study.yaml",
        language="shell",
    ),
    Code(
        "VD418",
        "which values are black and white is not said",
        """Images of float pixels, or of 16 bits in a format that does not say what they mean, hold any numbers. One
        rule for all images of the entry says which are black and white: `range: [BLACK, WHITE]`. A guess from each
        image would show the same picture as grey, black or white.""",
        "data:\n  scans: {source: folder, path: ./scans}",
        "data:\n  scans: {source: folder, path: ./scans, range: [0, 4095]}",
    ),
    Code(
        "VD430",
        "not a file of features",
        """`features` names a .safetensors or .npz file, or a folder of them: one array for each layer, `[image,
        width]` or `[image, token, width]`, and `ids`, one text for each image. The message says what is not so.
        `vitdsl features STUDY` writes such files.""",
    ),
    Code(
        "VD431",
        "features of other images",
        """Features are matched with the images of the stream by their ids, and some images have none. The
        message counts and names them. An id is what `images.csv` of a run shows: for a folder, the path in it.""",
    ),
    Code(
        "VD432",
        "features are not finite",
        "A NaN in features would be a NaN in every number. The message names the layer and the images.",
    ),
    Code(
        "VD501",
        "trust check failed",
        """Each run checks itself: the compiled baseline equals the plain model, CKA of a layer with itself
        is 1, and each ablation changes something. A check failed, so the numbers are not to be trusted.
        Please report it with the run folder.""",
    ),
    Code(
        "VD503",
        "training diverged",
        "The loss became infinite or NaN. Lower `learning_rate`, add `warmup_epochs`, or set `clip_grad`.",
    ),
    Code(
        "VD504",
        "image blocks are missing",
        """A process looked for what another should have saved, and it is not there: the processes have
        different `--out` folders, or a disk that they do not share, or somebody removed the store while
        they ran. Run the same command again; what is there is found.""",
        "torchrun --nproc-per-node 4 -m vitdsl run study.yaml --out /tmp/runs  # on several nodes",
        "torchrun --nproc-per-node 4 -m vitdsl run study.yaml --out /shared/runs",
        language="shell",
    ),
    Code(
        "VD505",
        "a decoding process was ended",
        """Images are decoded in processes of their own, and one of them was ended from outside: most often by
        the system, when memory was full. What was computed is kept; the same command goes on.""",
    ),
    Code(
        "VD506",
        "model gives no numbers",
        """The intact model, before any ablation, gives NaN or infinity for images of the study, though its weights
        are finite: values overflow. The message names the module where it begins. Half precision has the
        smallest range.""",
        "vitdsl run study.yaml --dtype fp16",
        "vitdsl run study.yaml --dtype bf16",
        language="shell",
    ),
    Code(
        "VD507",
        "a model that is read by hooks does something else",
        """The program of the model cannot be followed, so its modules are read while it runs. It must call the same
        modules in the same order for every batch, and each must give tensors of the same shape for an image: a name
        stands for one tensor. For some images it did not, or raised an error of its own. The message names these images
        and says what it did, and what it does for others.""",
    ),
    Code(
        "VD601",
        "not a run folder, or not complete",
        """A run folder holds `manifest.json` and `results.nc`. This one does not, or its run failed or was
        interrupted, or `results.nc` is not the file that the run wrote (its hash is in the manifest): run the
        study again, which takes little more than the drawing of its report.""",
        "vitdsl report runs/skip_ablation",
        "vitdsl report runs/skip_ablation/20260101T120000-1a2b3c4d",
        language="shell",
    ),
)
