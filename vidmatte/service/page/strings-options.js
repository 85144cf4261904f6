// @ts-check
/** The service's English texts on options, formats, models and groups, in Simplified Chinese. */

import { state } from "./store.js";

/** Name and help of an option. @type {Record<string, [string, string]>} */
const OPTIONS = {
  model: ["模型", "网络名称，或用 + 连接的两个"],
  family: ["架构", "自有 .onnx 文件的架构"],
  combine: ["组合方式", "两个模型的组合：edges 取第一个的主体与第二个的柔边"],
  normalize: ["归一化", "clip 保留网络的 Alpha，minmax 按每帧极值拉伸，rembg 与 rembg 完全一致"],
  like: ["仿照", "与另一工具相同的 Alpha"],
  downsample: ["粗算比例", "rvm：粗算时相对帧的比例（0：自动）"],
  pace: ["网络步调", "网络运行于每一帧（every）、至少每 N 帧一次（1 到 8），或由 auto 按运动中蒙版可延续的程度决定"],
  screen: ["幕布颜色", "默认取首帧边缘的颜色"],
  key: ["抠色范围", "非幕布部分成为 Alpha 0 与 1 的比例"],
  keep_shadows: ["保留阴影", "把幕布上的柔和阴影留在蒙版中"],
  smooth: ["时域平滑", "auto 仅用于逐帧模型，live 不看后续帧，strong 每帧再看一次镜像"],
  smooth_strength: ["平滑强度", "相邻帧的权重：0 不用，2 为两倍"],
  refine: ["边缘细化", "让柔边贴合画面细节；best 还求解不确定区域，耗时数倍"],
  foreground: ["边缘颜色", "estimate 去除旧背景色，source 保持原样，model 取网络结果"],
  cuts: ["镜头切换", "在每个切换处重新开始"],
  subject: ["主体", "在某一帧保留什么"],
  only: ["仅此主体", "多个主体中只输出这一个"],
  threshold: ["阈值", "低于下限为 0，高于上限为 1"],
  gamma: ["伽马", "大于 1 加厚柔边，小于 1 减薄"],
  keep_largest: ["仅最大区域", "只保留最大的连通区域"],
  remove_specks: ["去杂点", "移除不超过此面积的区域（像素）"],
  fill_holes: ["填孔", "填补不超过此面积的孔（像素）"],
  dilate: ["扩张", "边缘外移（像素）"],
  erode: ["收缩", "边缘内移（像素）"],
  feather: ["羽化", "柔化边缘（像素）"],
  invert: ["反转", "改为保留背景"],
  despill: ["去溢色", "去除幕布溢色：将该通道限制为另两个的均值"],
  despill_strength: ["去溢色强度", "去除多少溢色"],
  format: ["格式", "输出格式"],
  codec: ["编码", "同一后缀中的格式，如 prores-xq 或 cineform"],
  alpha: ["Alpha 类型", "premultiplied 把颜色乘以 Alpha；auto 仅在 OpenEXR 中如此"],
  background: ["背景", "颜色、图片、素材、checker 或 blur:20"],
  checker: ["棋盘格", "等同背景 checker"],
  size: ["尺寸", "静图：像素如 600x800，或 35x45mm@300，头部按证件照摆放"],
  crop: ["裁切", "静图：subject 贴合主体，subject:20 留 20 像素，subject:5% 留百分之五"],
  quality: ["质量", "jpeg、webp、avif、webm 与 h264：100 最好（0：格式默认）"],
  exr_compression: ["EXR 压缩", "默认 zip；dwaa 有损且小"],
  shadow: ["投影", "主体在背景上的投影：X,Y,模糊,不透明度，如 12,16,20"],
  manifest: ["清单", "记录结果制作方式的 JSON 文件"],
  start_number: ["起始编号", "图片序列首张的编号"],
  audio: ["声音", "保留原片声轨"],
  audio_tracks: ["声轨", "仅保留这些声轨，如 1,3"],
  fps: ["帧率", "图片文件夹或裸流的帧率，如 25 或 24000/1001"],
  video_track: ["视频轨", "读取的视频轨编号（0：自动）"],
  in_point: ["入点", "首帧：f120、秒或时码"],
  out_point: ["出点", "范围之后的第一帧，写法同入点"],
  handles: ["余量", "入点与出点两侧增加的帧数"],
  conform: ["统一帧率", "重复或丢弃帧，使帧率恒定"],
  deinterlace: ["去隔行", "auto 按原片声明，bwdif 始终"],
  colour: ["输入颜色", "原片未标或标错时的颜色，如 srgb、bt601、pq、range=full"],
  max_megapixels: ["最大像素", "可解码的最大画面，百万像素"],
  strict: ["严格", "遇到无法解码或损坏的帧即停止"],
  device: ["设备", "cpu、cuda 或 cuda:0,cuda:1"],
  runtime: ["运行时", "CPU 上运行网络的程序"],
  batch: ["批量", "逐帧网络每次运行的帧数（0：自动）"],
  threads: ["线程", "网络使用的 CPU 线程（0：自动）"],
  memory: ["内存", "处理中帧的内存上限"],
};

/** @type {Record<string, string>} */
const GROUPS = {
  Matte: "蒙版",
  Key: "抠色",
  Subject: "主体",
  Controls: "调整（按此顺序）",
  Output: "输出",
  Input: "输入",
  Machine: "机器",
};

/** @type {Record<string, string>} */
const FORMATS = {
  prores: "剪辑：Premiere、Resolve、Final Cut、After Effects 中的 ProRes 4444",
  "prores-xq": "要求 4444 XQ 的剪辑：相同采样，仅标签不同",
  cineform: "Windows 上的剪辑：CineForm RGBA，宽度须为 16 的倍数",
  ffv1: "归档与后续处理：无损，不透明采样不变",
  webm: "网页：VP9 带 Alpha，适用于 Chrome、Firefox、Edge、OBS",
  png: "合成与静图：每帧一张 RGBA，无损",
  png16: "10 位及以上素材的合成",
  tiff16: "印刷与静图：每帧一张",
  exr: "Nuke、Fusion、After Effects 合成：每帧一张，ZIP 压缩",
  exr32: "半精度不够时的合成",
  "exr-coded": "由工具自行转换的 log 与 HDR 素材",
  webp: "预览：动图，无声",
  apng: "网页：无损动图，无声",
  gif: "预览：动图，无声",
  jpeg: "证件照、商品图与印刷；主体置于背景上",
  avif: "网页：小尺寸静图",
};

/** @type {Record<string, string>} */
const MODELS = {
  isnet: "任意主体，边缘精细",
  u2netp: "任意主体，小而快",
  rvm: "人物，时间上稳定",
  "rvm-resnet50": "人物，更精细但更慢",
  u2net: "任意主体",
  u2net_human_seg: "人物",
  silueta: "任意主体，较小的 u2net",
  "isnet-anime": "动漫人物",
  "birefnet-general": "任意主体，边缘最精细",
  "birefnet-general-lite": "任意主体，较轻",
  "birefnet-portrait": "人像",
  "birefnet-hrsod": "显著主体，高分辨率",
  "birefnet-massive": "任意主体，训练更多",
};

const chinese = () => state.language === "zh";

/** @param {import("./types.js").Option} option @returns {string} */
export function optionTitle(option) {
  const name = option.name.replaceAll("_", " ");
  return chinese() ? (OPTIONS[option.name]?.[0] ?? name) : name[0].toUpperCase() + name.slice(1);
}

/** @param {import("./types.js").Option} option @returns {string} */
export function optionHelp(option) {
  return chinese() ? (OPTIONS[option.name]?.[1] ?? option.help) : option.help;
}

/** @param {string} group @returns {string} */
export function groupTitle(group) {
  const known = Object.keys(GROUPS).find((one) => group.startsWith(one));
  return chinese() && known ? GROUPS[known] : group;
}

/** @param {import("./types.js").Format} format @returns {string} */
export function formatUse(format) {
  return chinese() ? (FORMATS[format.name] ?? format.good_for) : format.good_for;
}

/** What the formats' numbers are called. @type {[RegExp, string][]} */
const UNITS = [
  [/the source's own layout and depth/, "与原片相同的格式与位深"], [/as deep as the picture/, "与画面同深"],
  [/unchanged code values/, "码值不变"], [/linear light/, "线性光"], [/premultiplied/, "预乘"], [/straight/, "直通"],
  [/half float/g, "半精度浮点"], [/32-bit float/g, "32 位浮点"], [/lossless/g, "无损"], [/lossy/g, "有损"],
  [/(\d+) bits/, "$1 位"], [/(\d+) levels/, "$1 级"], [/(\d+) colours/, "$1 色"], [/cut at half/, "以一半为界"],
  [/soft ones within/, "柔边误差不超过"],
];

/** @param {string | null} text  a format's depth or alpha @returns {string | null} */
export function formatFacts(text) {
  return chinese() && text ? UNITS.reduce((now, [word, other]) => now.replace(word, other), text) : text;
}

/** @param {import("./types.js").Model} model @returns {string} */
export function modelUse(model) {
  return chinese() ? (MODELS[model.name] ?? model.description) : model.description;
}
