/** The parts of ECharts that our charts use: a chunk of its own, loaded when the first chart is shown. */

import { BarChart, HeatmapChart } from 'echarts/charts';
import { GridComponent, PolarComponent, TooltipComponent, VisualMapComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';

use([BarChart, HeatmapChart, GridComponent, PolarComponent, TooltipComponent, VisualMapComponent, CanvasRenderer]);

export { init };
